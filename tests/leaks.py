"""What a test may leave behind by mistake, seen from outside and cheaply: a few milliseconds a test.

What lives for the whole session (fixtures of a wider scope, which begin before the check does; the resource tracker of
multiprocessing; a library's own monitor thread) is not held against the test that happened to start it.
"""

from __future__ import annotations

import asyncio
import asyncio.runners
import gc
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

PATIENCE_SECONDS = 2.0
"""What is on its way out (a thread that was told to end, a child that was killed) gets so long."""
SESSION_THREADS = ("TMonitor", "_MonitorThread")
SESSION_CHILDREN = ("multiprocessing.resource_tracker", "multiprocessing.forkserver")
SHARED_TARGETS = ("/dev/null", "/dev/urandom", "/dev/random", "/dev/nvidia", "/proc/", "/sys/")
SHARED_PARTS = (".hypothesis", "/site-packages/", "/.coverage")

LOOPS_OWN = "async_generator_athrow"
"""The loop closes an async generator that nobody holds any more; a library's client may leave one."""

_forgotten_tasks: list[str] = []


def _watch_tasks() -> None:
    """`asyncio.run` cancels what `main` left running, so that nobody would see it: write it down before."""
    cancel_all: Callable[[asyncio.AbstractEventLoop], None] = asyncio.runners._cancel_all_tasks  # type: ignore[attr-defined]

    def note_and_cancel(loop: asyncio.AbstractEventLoop) -> None:
        _forgotten_tasks.extend(
            f"{task.get_name()} ({task.get_coro()!r})"
            for task in asyncio.all_tasks(loop)
            if type(task.get_coro()).__name__ != LOOPS_OWN
        )
        cancel_all(loop)

    asyncio.runners._cancel_all_tasks = note_and_cancel  # type: ignore[attr-defined]


_watch_tasks()


class LeakWatch:
    """Remembers what there was when it was made."""

    def __init__(self) -> None:
        _forgotten_tasks.clear()
        self._threads = set(threading.enumerate())
        self._children = _children()
        self._descriptors = descriptors()
        self._shared_memory = shared_memory()

    def leaks(self, *, patience_seconds: float = PATIENCE_SECONDS) -> list[str]:
        """What there is now and was not then, in words; waits for what is on its way out."""
        until = time.monotonic() + patience_seconds
        found = self._look()
        if found:
            gc.collect()  # what nobody holds any more
            found = self._look()
        while found and time.monotonic() < until:
            time.sleep(0.02)
            found = self._look()
        return [*found, *(f"task {name}" for name in _forgotten_tasks)]

    def _look(self) -> list[str]:
        found = [f"thread {thread.name}" for thread in threading.enumerate() if self._is_new(thread)]
        found += [f"child {told}" for pid, told in _children().items() if pid not in self._children]
        tracker = _tracker_descriptor()
        found += [
            f"descriptor {fd} ({target})"
            for fd, target in descriptors().items()
            if self._descriptors.get(fd) != target and fd != tracker and not _is_shared(target)
        ]
        if "PYTEST_XDIST_WORKER" not in os.environ:
            found += [f"shared memory {name}" for name in shared_memory() - self._shared_memory]
        return found

    def _is_new(self, thread: threading.Thread) -> bool:
        return thread not in self._threads and type(thread).__name__ not in SESSION_THREADS


def descriptors() -> dict[int, str]:
    """Open descriptors of this process, and what they lead to."""
    found: dict[int, str] = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            found[int(name)] = os.readlink(f"/proc/self/fd/{name}")
        except OSError:
            continue  # the one that listed them
    return found


def shared_memory() -> set[str]:
    """Names in /dev/shm."""
    try:
        return {entry.name for entry in Path("/dev/shm").iterdir()}
    except OSError:
        return set()


def _is_shared(target: str) -> bool:
    return target.startswith(SHARED_TARGETS) or any(part in target for part in SHARED_PARTS)


def _children() -> dict[int, str]:
    """Children of this process and their command lines, those that were not reaped included."""
    me = str(os.getpid())
    found: dict[int, str] = {}
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        try:
            stat = Path("/proc", entry, "stat").read_text(errors="replace")
            state, parent, *_ = stat[stat.rindex(")") + 2 :].split(" ", 2)
            if parent != me:
                continue
            line = Path("/proc", entry, "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue  # gone meanwhile
        if not any(name in line for name in SESSION_CHILDREN):
            found[int(entry)] = f"{entry} ({'not reaped' if state == 'Z' else line.strip()[:200]})"
    return found


def _tracker_descriptor() -> Any:
    from multiprocessing import resource_tracker

    return getattr(resource_tracker._resource_tracker, "_fd", None)
