"""The real worker program over its real socket."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gemmad.demo import CHECKPOINT
from gemmad.generation import EngineSettings, FinishReason, ImageSpan, Prompt, SamplingParams
from gemmad.protocol.channel import BlockingChannel
from gemmad.protocol.messages import (
    EXIT_ASKED,
    EXIT_SETTINGS,
    PROTOCOL_VERSION,
    Abort,
    Configure,
    Drain,
    Dying,
    FromWorker,
    Heartbeat,
    Loading,
    Output,
    Ready,
    Rejected,
    Shutdown,
    Stepped,
    Submit,
)

DEADLINE_SECONDS = 60


class Worker:
    """A child and our end of its socket."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        ours.settimeout(DEADLINE_SECONDS)
        command = [sys.executable, "-m", "gemmad.worker", "--fd", str(theirs.fileno())]
        self.process = subprocess.Popen(command, pass_fds=[theirs.fileno()])
        theirs.close()
        self.channel: BlockingChannel[FromWorker] = BlockingChannel(ours, FromWorker)

    def configure(self, **settings: Any) -> None:
        """The first frame."""
        values: dict[str, Any] = {"checkpoint": str(CHECKPOINT), "kv_bytes": 64 << 20} | settings
        self.channel.send(Configure(PROTOCOL_VERSION, "cpu0", 1, EngineSettings(**values)))

    def until(self, kind: type[Any]) -> Any:
        """The next message of a kind; others are passed over."""
        while (message := self.channel.receive()) is not None:
            if isinstance(message, kind):
                return message
        raise AssertionError(f"end of file before {kind.__name__}")

    def answer(self, request_id: int) -> list[int]:
        """Tokens of one request to its end."""
        said: list[int] = []
        while True:
            for output in self.until(Stepped).outputs:
                if output.request_id == request_id:
                    said += output.token_ids
                    if output.finish is not None:
                        return said

    def close(self) -> None:
        """Kill and reap."""
        self.channel.close()
        self.process.kill()
        self.process.wait(DEADLINE_SECONDS)


@pytest.fixture
def worker() -> Iterator[Worker]:
    """A child that has not been configured."""
    child = Worker()
    yield child
    child.close()


@pytest.fixture(scope="module")
def ready() -> Iterator[Worker]:
    """A child that serves, for tests that leave it as it was."""
    child = Worker()
    child.configure()
    child.until(Ready)
    yield child
    child.close()


def memfd(content: bytes) -> int:
    """An image's bytes as the daemon sends them."""
    fd = os.memfd_create("test", os.MFD_CLOEXEC)
    os.write(fd, content)
    return fd


def test_says_what_it_does_until_it_is_ready(worker: Worker) -> None:
    """Loading comes first, with the version and the stages in order; Ready tells what fits."""
    first = worker.until(Loading)
    assert (first.protocol, first.stage) == (PROTOCOL_VERSION, "imports")
    worker.configure(max_sequences=3)
    stages: list[str] = []
    while not isinstance(message := worker.channel.receive(), Ready):
        assert isinstance(message, Loading)
        stages.append(message.stage)
    assert list(dict.fromkeys(stages)) == ["weights", "memory", "warm-up"]
    assert message.capacity.max_sequences == 3
    assert message.pid == worker.process.pid
    worker.channel.send(Shutdown())
    assert worker.process.wait(DEADLINE_SECONDS) == EXIT_ASKED


def test_a_seed_gives_the_same_tokens_again(ready: Worker) -> None:
    """Sampling is a function of seed and position: again, resumed half way, and unlike another seed's."""
    prompt = Prompt((1, 100, 200, 300))
    sampling = SamplingParams(max_tokens=12, seed=7, temperature=9.0)
    ready.channel.send(Submit(1, prompt, sampling))
    said = ready.answer(1)
    assert len(said) == 12
    ready.channel.send(Submit(2, prompt, sampling))
    assert ready.answer(2) == said
    ready.channel.send(Submit(3, prompt, sampling, generated=tuple(said[:5])))
    assert said[:5] + ready.answer(3) == said
    ready.channel.send(Submit(4, prompt, SamplingParams(max_tokens=12, seed=8, temperature=9.0)))
    assert ready.answer(4) != said


def test_an_abort_ends_a_request_without_a_word(ready: Worker) -> None:
    """After an abort nothing more comes of a request and its pages are free; others are not touched."""
    ready.channel.send(Submit(10, Prompt((1, 5)), SamplingParams(max_tokens=4000, seed=1)))
    ready.until(Stepped)
    ready.channel.send(Abort(10))
    ready.channel.send(Abort(424242))
    ready.channel.send(Submit(11, Prompt((1, 5)), SamplingParams(max_tokens=3, seed=1)))
    assert len(ready.answer(11)) == 3
    load = ready.until(Heartbeat).load
    while load.running:
        load = ready.until(Heartbeat).load
    assert (load.full_pages_used, load.sliding_pages_used) == (0, 0)


@pytest.mark.parametrize(
    ("submit", "reason"),
    [
        (Submit(20, Prompt(()), SamplingParams(max_tokens=1)), "nothing"),
        (Submit(21, Prompt((1,) * 9000), SamplingParams(max_tokens=1)), "context"),
        (Submit(22, Prompt((1, 99999)), SamplingParams(max_tokens=1)), "between 0 and"),
        (Submit(23, Prompt((1, -1)), SamplingParams(max_tokens=1)), "between 0 and"),
        (Submit(24, Prompt((1, 2)), SamplingParams(max_tokens=2), generated=(1, 2)), "nothing"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_can_never_be_served_is_rejected(ready: Worker, submit: Submit, reason: str) -> None:
    """A submission that makes no sense costs a sentence, not the worker."""
    ready.channel.send(submit)
    rejected = ready.until(Rejected)
    assert rejected.request_id == submit.request_id
    assert reason in rejected.reason


def test_an_image_of_a_wrong_size_is_rejected(ready: Worker) -> None:
    """Pixels that do not fit the tower cost a sentence; the next image is seen."""
    soft = 16
    prompt = Prompt((1, *(0,) * soft, 5), (ImageSpan(1, soft, "a"),))
    for number, (size, ends) in enumerate([(5, Rejected), (64 * 64 * 3, Stepped)], start=30):
        fd = memfd(bytes(size))
        ready.channel.send(Submit(number, prompt, SamplingParams(max_tokens=1)), [fd])
        os.close(fd)
        assert isinstance(ready.until(ends), ends)


def test_drain_finishes_what_runs(worker: Worker) -> None:
    """After Drain the running request says all it has to, then the worker ends as asked."""
    worker.configure()
    worker.until(Ready)
    worker.channel.send(Submit(1, Prompt((1, 5)), SamplingParams(max_tokens=40, seed=1)))
    worker.channel.send(Drain())
    assert len(worker.answer(1)) == 40
    assert worker.process.wait(DEADLINE_SECONDS) == EXIT_ASKED


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"checkpoint": "/nowhere"}, "config.json is missing"),
        ({"max_context": 1 << 20}, "was trained for"),
        ({"kv_bytes": 1 << 16}, "set memory.kv_bytes to"),
    ],
    ids=["folder", "context", "memory"],
)
def test_settings_that_cannot_work_are_told_apart(worker: Worker, settings: dict[str, Any], reason: str) -> None:
    """A worker whose settings are wrong says why and exits with the code that stops retries."""
    worker.configure(**settings)
    dying = worker.until(Dying)
    assert dying.exit_code == EXIT_SETTINGS
    assert reason in dying.reason
    assert worker.process.wait(DEADLINE_SECONDS) == EXIT_SETTINGS


def test_the_daemons_end_of_file_ends_it(worker: Worker) -> None:
    """A worker whose daemon is gone does not stay."""
    worker.configure()
    worker.until(Ready)
    worker.channel.close()
    assert worker.process.wait(DEADLINE_SECONDS) is not None


def test_sigterm_is_a_shutdown(ready: Worker) -> None:
    """A worker told to end by hand ends as asked."""
    child = Worker()
    child.configure()
    child.until(Ready)
    child.process.send_signal(signal.SIGTERM)
    assert child.process.wait(DEADLINE_SECONDS) == EXIT_ASKED
    child.close()


def test_dies_with_its_parent(tmp_path: Path) -> None:
    """When the process that spawned it is killed, the kernel kills the worker, mid-load or not."""
    script = tmp_path / "parent.py"
    script.write_text(
        "import socket, subprocess, sys, time\n"
        "ours, theirs = socket.socketpair()\n"
        "command = [sys.executable, '-m', 'gemmad.worker', '--fd', str(theirs.fileno())]\n"
        "child = subprocess.Popen(command, pass_fds=[theirs.fileno()])\n"
        "ours.recv(1)\n"  # its first frame: it has asked the kernel by now
        "print(child.pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    parent = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    parent.kill()
    parent.wait(DEADLINE_SECONDS)
    parent.stdout.close()
    until = time.monotonic() + 10
    while _alive(pid):
        assert time.monotonic() < until, "the worker outlived its parent"
        time.sleep(0.02)


def _alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii") as file:
            return file.read().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_finish_reasons(ready: Worker) -> None:
    """A stop id ends a reply as stop, the limit as length, and a shortest length holds stop ids back."""
    everything = tuple(range(2048))
    for number, sampling, count, reason in [
        (40, SamplingParams(max_tokens=3), 3, FinishReason.LENGTH),
        (41, SamplingParams(max_tokens=3, stop_token_ids=everything), 1, FinishReason.STOP),
        (42, SamplingParams(max_tokens=5, min_tokens=3, stop_token_ids=everything[8:16]), 3, None),
    ]:
        ready.channel.send(Submit(number, Prompt((1, 5)), sampling))
        outputs: list[Output] = []
        while not outputs or outputs[-1].finish is None:
            outputs += [o for o in ready.until(Stepped).outputs if o.request_id == number]
        assert len(outputs) >= count
        assert reason is None or (len(outputs), outputs[-1].finish) == (count, reason)
