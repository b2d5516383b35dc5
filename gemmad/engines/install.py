"""Making an engine: a virtual environment with exactly the versions of a lock file, tried before it counts.

Packages come from where pip is told to look: the public index, the user's own mirror (pip's configuration), and torch's
index for builds without CUDA, which its lock file names. Only wheels are taken, so nothing of anybody's is built here.
"""

from __future__ import annotations

import datetime
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from gemmad.engines.launch import PACKAGE
from gemmad.engines.store import Engine, EngineError, EngineStore

LOCKS = PACKAGE / "engines" / "locks"
NEEDED_BYTES = {"cuda": 12 << 30, "cpu": 3 << 30}
"""While it is installed: what is fetched, and what that is unpacked to."""
OWN = "own"
PROBE_SECONDS = 300.0
"""The first import of torch from a cold disk, with all its bytecode to be written."""
INSTALL_SECONDS = 4 * 3600.0
FEW_WORDS = 2000

_TORCH = "-torch"
"""Ends the name of a lock that has torch alone, from an index of its own; the other one is for the rest."""

Say = Callable[[str], None]


def kinds() -> tuple[str, ...]:
    """That can be installed."""
    return tuple(sorted(path.stem for path in LOCKS.glob("*.txt") if not path.stem.endswith(_TORCH)))


def install(
    store: EngineStore,
    kind: str,
    *,
    say: Say,
    lock: Path | None = None,
    needed_bytes: int | None = None,
    python: str = sys.executable,
) -> Engine:
    """A new engine of this kind; it is not current yet. Call it within `store.changing()`.

    `lock`: other requirements than the shipped ones; they take `needed_bytes`. Raises EngineError, and then nothing is
    left of it.
    """
    lock = LOCKS / f"{kind}.txt" if lock is None else lock.absolute()
    if not lock.is_file():
        raise EngineError(f"there is no lock file {lock}; engines are of the kinds {', '.join(kinds())}")
    _check_room(store.folder, NEEDED_BYTES.get(kind, 0) if needed_bytes is None else needed_bytes)
    folder = store.begin(kind)
    try:
        say(f"making {folder}")
        _run([python, "-m", "venv", str(folder)], words="no virtual environment can be made")
        own = str(folder / "bin" / "python")
        say(f"installing what {lock.name} names")
        environment = _pip_env(folder)
        if (torch := lock.with_stem(lock.stem + _TORCH)).is_file():
            _run(
                [own, *_pip(torch), "--no-deps", "--retries", "2"], words="pip could not install torch", env=environment
            )
        _run([own, *_pip(lock)], words="pip could not install it", env=environment)
        shutil.rmtree(folder / ".tmp")
        say("trying it")
        engine = _probe(own, name=folder.name, kind=kind, size_bytes=_size_of(folder))
        store.finish(engine)
    except BaseException:
        store.abandon(folder)
        raise
    return engine


def add(store: EngineStore, python: Path) -> Engine:
    """An environment that somebody else made, by its interpreter. Call it within `store.changing()`.

    Raises EngineError if a worker could not run in it.
    """
    interpreter = python.absolute()  # not resolved: a virtual environment's is a link, and known by its own path
    if not os.access(interpreter, os.X_OK) or interpreter.is_dir():
        raise EngineError(f"{interpreter} is no Python that can be run")
    folder = store.begin(OWN)
    try:
        engine = _probe(str(interpreter), name=folder.name, kind=OWN, size_bytes=0)
        store.finish(engine)
    except BaseException:
        store.abandon(folder)
        raise
    return engine


def module_command(python: str, module: str) -> tuple[str, ...]:
    """What runs one of gemmad's modules in an engine's Python."""
    return (python, "-P", "-s", str(PACKAGE / "engines" / "launch.py"), module)


def _check_room(folder: Path, needed_bytes: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < needed_bytes:
        raise EngineError(f"{folder} has {free / 1e9:.1f} GB left, and it takes up to {needed_bytes / 1e9:.0f} GB")


def _pip(lock: Path) -> list[str]:
    quiet = ("--disable-pip-version-check", "--no-input", "--progress-bar", "off")
    return ["-m", "pip", "install", *quiet, "--no-cache-dir", "--only-binary", ":all:", "--requirement", str(lock)]


def _pip_env(folder: Path) -> dict[str, str]:
    """What is fetched lies where the room was looked at, and /tmp may be small."""
    temporary = folder / ".tmp"
    temporary.mkdir()
    return {**os.environ, "TMPDIR": str(temporary), "PIP_USER": "0", "PIP_REQUIRE_VIRTUALENV": "0"}


def _probe(python: str, *, name: str, kind: str, size_bytes: int) -> Engine:
    """Have it import what a worker does, and tell about itself. Raises EngineError with its last words."""
    words = f"no worker can run in {python}"
    told = _run(module_command(python, "gemmad.worker.probe"), words=words, seconds=PROBE_SECONDS)
    try:
        facts = json.loads(told.splitlines()[-1])
        versions, site = {"torch": facts["torch"], "python": facts["python"]}, facts["site"]
    except (ValueError, IndexError, KeyError, TypeError):
        raise EngineError(f"{words}: it said {told[-FEW_WORDS:]!r}") from None
    if kind == "cuda" and not facts.get("cuda"):
        raise EngineError(f"{words}: its torch {facts['torch']} is built without CUDA")
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    return Engine(name=name, kind=kind, python=python, site=site, versions=versions, made=now, bytes=size_bytes)


def _run(
    command: Sequence[str], *, words: str, env: dict[str, str] | None = None, seconds: float = INSTALL_SECONDS
) -> str:
    """Its output. Raises EngineError with `words` and the end of what it said."""
    try:
        done = subprocess.run(
            command, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=seconds,
            cwd="/",  # Python's -m finds modules where it is started, which may be anybody's folder, or gone
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise EngineError(f"{words}: not done after {seconds:g} seconds") from None
    except OSError as error:
        raise EngineError(f"{words}: {error}") from None
    if done.returncode != 0:
        said = (done.stderr.strip() or done.stdout.strip() or f"exit status {done.returncode}")[-FEW_WORDS:]
        raise EngineError(f"{words}:\n{said}")
    return done.stdout


def _size_of(folder: Path) -> int:
    return sum(
        os.lstat(os.path.join(path, name)).st_blocks * 512 for path, _, names in os.walk(folder) for name in names
    )
