"""The leak check finds what it is there for."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading

from tests.leaks import LeakWatch

IMPATIENT = 0.1


def test_nothing_is_nothing() -> None:
    """A test that cleans up has no leaks."""
    watch = LeakWatch()
    read_fd, write_fd = os.pipe()
    os.close(read_fd)
    os.close(write_fd)
    asyncio.run(asyncio.sleep(0))
    assert watch.leaks(patience_seconds=IMPATIENT) == []


def test_a_descriptor_is_found() -> None:
    """A pipe that stays open is named."""
    watch = LeakWatch()
    read_fd, write_fd = os.pipe()
    found = watch.leaks(patience_seconds=IMPATIENT)
    os.close(read_fd)
    os.close(write_fd)
    assert len(found) == 2
    assert all("pipe:" in leak for leak in found)


def test_a_task_is_found() -> None:
    """A task that asyncio.run had to cancel is named."""
    watch = LeakWatch()

    async def main() -> None:
        forgotten = asyncio.create_task(asyncio.sleep(10), name="forgotten")
        await asyncio.sleep(0)
        del forgotten

    asyncio.run(main())
    (leak,) = watch.leaks(patience_seconds=IMPATIENT)
    assert "forgotten" in leak
    LeakWatch()


def test_a_thread_is_found() -> None:
    """A thread that still runs is named."""
    watch = LeakWatch()
    end = threading.Event()
    thread = threading.Thread(target=end.wait, name="lingerer")
    thread.start()
    found = watch.leaks(patience_seconds=IMPATIENT)
    end.set()
    thread.join()
    assert found == ["thread lingerer"]


def test_a_child_is_found() -> None:
    """A child that runs is named, and one that nobody reaped."""
    watch = LeakWatch()
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        assert child.stdin is not None
        assert any(f"child {child.pid}" in leak for leak in watch.leaks(patience_seconds=IMPATIENT))
        child.stdin.close()
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert any("not reaped" in leak for leak in watch.leaks(patience_seconds=IMPATIENT))
        child.stdin = None
