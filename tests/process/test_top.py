"""`gemmad top` at a terminal, with a real daemon behind it."""

from __future__ import annotations

import fcntl
import os
import re
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.process.daemon import PATIENCE_SECONDS, DaemonProcess, start_demo
from tests.process.test_control import command

HOME, LEAVE = "\x1b[H", "\x1b[?1049l"
ESCAPE = re.compile(r"\x1b\[[?0-9;]*[A-Za-z]")


class Terminal:
    """A pseudo-terminal, and the program in it."""

    def __init__(self, process: subprocess.Popen[str], ours: int, theirs: int) -> None:
        self.process = process
        self.raw = ""
        self._ours = ours
        self._theirs = theirs

    def resize(self, columns: int, lines: int) -> None:
        """As a window manager does."""
        fcntl.ioctl(self._theirs, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
        self.process.send_signal(signal.SIGWINCH)

    def type(self, keys: str) -> None:
        os.write(self._ours, keys.encode())

    def mode(self) -> list[Any]:
        """What the terminal does with what is typed."""
        return termios.tcgetattr(self._theirs)

    def frame(self) -> list[str]:
        """The lines of the last whole frame."""
        frames = self.raw.split(HOME)[1:-1]
        return ESCAPE.sub("", frames[-1]).split("\r\n") if frames else []

    def wait_frame(self, condition: Callable[[list[str]], object]) -> list[str]:
        """Read until a frame is as it should be."""
        give_up = time.monotonic() + PATIENCE_SECONDS
        while not (self.frame() and condition(self.frame())):
            assert time.monotonic() < give_up, self.raw[-4000:]
            self.read(0.1)
        return self.frame()

    def read(self, seconds: float) -> None:
        """What has been written, waiting for it no longer than that."""
        if select.select([self._ours], [], [], seconds)[0]:
            self.raw += os.read(self._ours, 65536).decode(errors="replace")

    def wait(self) -> int:
        """Its exit status; what it wrote at the end is read."""
        status = self.process.wait(PATIENCE_SECONDS)
        self.read(0)
        return status


@contextmanager
def watching(daemon: DaemonProcess, *arguments: str, env: dict[str, str] | None = None) -> Iterator[Terminal]:
    line, options = command(daemon, "top", "--interval", "0.2", *arguments)
    options["env"] |= {"TERM": "xterm", "PYTHONUTF8": "1"} | (env or {})
    ours, theirs = os.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    try:
        process = subprocess.Popen(line, **options, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True)
        try:
            yield Terminal(process, ours, theirs)
        finally:
            process.kill()
            process.wait()
    finally:
        os.close(ours)
        os.close(theirs)


def holds(lines: list[str], words: str) -> bool:
    return any(words in line for line in lines)


def test_it_follows_the_daemon_and_the_window(tmp_path: Path) -> None:
    """The real daemon is shown, frames fit the window as it changes, keys are heard, a daemon that ends is told, and q
    leaves the terminal as it was."""
    with start_demo(tmp_path) as daemon:
        daemon.wait_ready()
        with watching(daemon) as terminal:
            before = terminal.mode()
            lines = terminal.wait_frame(lambda lines: holds(lines, "cpu0 ready"))
            assert lines[0].startswith("gemmad ")
            assert len(lines) <= 24
            assert terminal.mode() != before
            terminal.resize(40, 10)
            terminal.wait_frame(lambda lines: len(lines) <= 10 and max(map(len, lines)) <= 40)
            terminal.type("s")
            terminal.wait_frame(lambda lines: holds(lines, "sort: said"))
            terminal.type("p")
            terminal.wait_frame(lambda lines: holds(lines, "paused"))
            terminal.type("p")
            terminal.wait_frame(lambda lines: not holds(lines, "paused"))
            daemon.stop()
            terminal.wait_frame(lambda lines: holds(lines, "no answer") and holds(lines, "cpu0"))
            terminal.type("q")
            assert terminal.wait() == 0
            assert terminal.mode() == before
            assert terminal.raw.rstrip().endswith(LEAVE)
            assert "Traceback" not in terminal.raw


def test_a_daemon_that_comes_is_shown(tmp_path: Path, demo_daemon: DaemonProcess) -> None:
    """Who looks before there is a daemon sees it once it is there."""
    link = tmp_path / "runtime"
    with watching(demo_daemon, env={"GEMMAD_RUNTIME_DIR": str(link)}) as terminal:
        terminal.wait_frame(lambda lines: holds(lines, "no daemon is running"))
        link.symlink_to(demo_daemon.folder / "runtime")
        terminal.wait_frame(lambda lines: holds(lines, "cpu0 ready"))


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGTERM, -signal.SIGTERM), (signal.SIGHUP, -signal.SIGHUP), (signal.SIGINT, 0)]
)
def test_signals_leave_the_terminal_as_it_was(demo_daemon: DaemonProcess, number: signal.Signals, status: int) -> None:
    """Ctrl-C leaves like q; what else ends it is told by the exit status, and the terminal is restored before."""
    with watching(demo_daemon, env={"NO_COLOR": "1"}) as terminal:
        before = terminal.mode()
        terminal.wait_frame(lambda lines: holds(lines, "cpu0 ready"))
        terminal.process.send_signal(number)
        assert terminal.wait() == status
        assert terminal.mode() == before
        assert terminal.raw.rstrip().endswith(LEAVE)
        assert not re.search(r"\x1b\[[0-9;]*3[0-9]m", terminal.raw)


def test_ctrl_z_gives_the_terminal_back(demo_daemon: DaemonProcess) -> None:
    """Stopped it has the terminal no more; when it goes on it has it again."""
    with watching(demo_daemon) as terminal:
        before = terminal.mode()
        terminal.wait_frame(lambda lines: holds(lines, "cpu0 ready"))
        terminal.process.send_signal(signal.SIGTSTP)
        pid, how = os.waitpid(terminal.process.pid, os.WUNTRACED)
        assert (pid, os.WIFSTOPPED(how)) == (terminal.process.pid, True)
        assert terminal.mode() == before
        terminal.process.send_signal(signal.SIGCONT)
        terminal.raw = ""
        terminal.wait_frame(lambda lines: holds(lines, "cpu0 ready"))
        terminal.type("q")
        assert terminal.wait() == 0


def test_a_dumb_terminal_gets_one_frame(demo_daemon: DaemonProcess) -> None:
    """Where the cursor cannot be moved one plain frame is all."""
    with watching(demo_daemon, env={"TERM": "dumb"}) as terminal:
        while terminal.process.poll() is None:
            terminal.read(0.1)
        assert terminal.wait() == 0
        assert "cpu0 ready" in terminal.raw
        assert "\x1b" not in terminal.raw
