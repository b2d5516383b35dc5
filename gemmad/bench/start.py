"""From a worker's start to ready: a real worker process, first with cold caches, then with those it has left warm.

Cold is an empty cache of compiled kernels, and weights that the kernel of this machine has dropped from its memory.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from gemmad.bench.export import write_checkpoint
from gemmad.bench.record import Row, value_row
from gemmad.bench.rig import DoesNotApply
from gemmad.bench.stage import Budget, Case
from gemmad.bench.subject import Subject
from gemmad.engines.install import module_command
from gemmad.generation import EngineSettings
from gemmad.planning.gguf import find_gguf
from gemmad.protocol.channel import BlockingChannel
from gemmad.protocol.messages import (
    PROTOCOL_VERSION,
    Configure,
    Dying,
    FromWorker,
    Loading,
    Ready,
    Shutdown,
)

LONGEST_START_SECONDS = 600.0
_GOODBYE_SECONDS = 20.0
_LAST_WORDS = 2000


class StartFailed(Exception):  # noqa: N818 - told as the reason of a row
    """A worker that did not get ready."""


@dataclass(frozen=True)
class Start:
    """How one start went."""

    seconds: float
    """From before the process was made."""
    stages: dict[str, float]
    """Seconds of each stage that the worker told, in order."""
    ready: Ready


def start(subject: Subject, budget: Budget, *, repeat: int, quick: bool) -> Iterator[Case]:
    """One case: the lives follow one another. `quick` leaves the files in memory, as writing them out takes long."""

    def measure() -> Iterator[Row]:
        if subject.random is not None:
            _write(subject)
        subject.let_go()
        with tempfile.TemporaryDirectory() as caches:
            env = os.environ | {"TRITON_CACHE_DIR": str(Path(caches, "triton"))}
            if not quick:
                forget_files(subject.folder)
            cold = "start to ready, nothing compiled" if quick else "start to ready, cold"
            yield _row(cold, [start_worker(subject.settings, env=env, budget=budget)], subject)
            lives = [start_worker(subject.settings, env=env, budget=budget) for _ in budget.repeats(max(1, repeat - 1))]
            yield _row("start to ready, warm", lives, subject)

    yield Case("start to ready", measure)


def _write(subject: Subject) -> None:
    weights = subject.weights()
    free = shutil.disk_usage(subject.folder).free
    if free < weights.nbytes:
        raise DoesNotApply(
            f"the weights take {weights.nbytes / 1e9:.1f} GB and {subject.folder.parent} has {free / 1e9:.1f} GB left; "
            f"TMPDIR can name another folder"
        )
    write_checkpoint(subject.config, weights, subject.folder)


def start_worker(settings: EngineSettings, *, env: Mapping[str, str], budget: Budget) -> Start:
    """Start, wait until it is ready, end it. Raises StartFailed with its last words, DoesNotApply when time is out."""
    began = time.monotonic()
    ours, theirs = socket.socketpair()
    with ours, theirs, tempfile.TemporaryFile() as said:
        command = [*module_command(sys.executable, "gemmad.worker"), "--fd", str(theirs.fileno())]
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=said, stderr=said, pass_fds=[theirs.fileno()], env=dict(env)
        )
        theirs.close()
        ours.settimeout(max(1.0, min(budget.left, LONGEST_START_SECONDS)))
        try:
            return _until_ready(BlockingChannel(ours, FromWorker), process, settings, began=began)
        except TimeoutError:
            raise DoesNotApply("there was not enough time for a start") from None
        except EOFError:
            said.seek(0)
            raise StartFailed(
                said.read()[-_LAST_WORDS:].decode(errors="replace") or "it ended without a word"
            ) from None
        finally:
            process.kill()
            process.wait(_GOODBYE_SECONDS)


def _until_ready(
    channel: BlockingChannel[FromWorker], process: subprocess.Popen[bytes], settings: EngineSettings, *, began: float
) -> Start:
    channel.send(Configure(PROTOCOL_VERSION, "bench", 1, settings))
    found = _listen(channel, began)
    channel.send(Shutdown())
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(_GOODBYE_SECONDS)
    return found


def _listen(channel: BlockingChannel[FromWorker], began: float) -> Start:
    begun: dict[str, float] = {}
    while (message := channel.receive()) is not None:
        at = time.monotonic()
        match message:
            case Loading(stage=stage):
                begun.setdefault(stage, at)
            case Ready():
                ends = [*list(begun.values())[1:], at]
                stages = {stage: end - since for (stage, since), end in zip(begun.items(), ends, strict=True)}
                return Start(at - began, {"process": min(begun.values()) - began} | stages, message)
            case Dying(_, reason):
                raise StartFailed(reason)
            case _:
                continue
    raise EOFError


def _row(label: str, lives: list[Start], subject: Subject) -> Row:
    details = {f"{stage}_s": seconds for stage, seconds in lives[-1].stages.items()}
    reading = lives[-1].stages.get("weights", 0.0)
    if reading > 0:
        details["weights_GB_per_s"] = checkpoint_bytes(subject.folder) / reading / 1e9
    return value_row(label, "s", [life.seconds for life in lives], **details)


def checkpoint_bytes(folder: Path) -> int:
    """Of the files that hold weights."""
    gguf = find_gguf(folder)
    paths = folder.glob("*.safetensors") if gguf is None else gguf.paths
    return sum(path.stat().st_size for path in paths)


def forget_files(folder: Path) -> None:
    """Ask the kernel to drop a folder's files from its page cache; what it has not written yet is written first."""
    for path in folder.iterdir():
        fd = os.open(path, os.O_RDONLY)
        try:
            os.fsync(fd)
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(fd)
