"""The terminal while `gemmad top` has it: keys come one by one, the screen is its own, and all is as before at the end,
however that comes."""

from __future__ import annotations

import contextlib
import io
import os
import select
import signal
import sys
import termios
import tty
from collections.abc import Iterator, Mapping, Sequence
from types import FrameType
from typing import Any, TextIO

from rich.console import Console
from rich.text import Text

_ENTER = "\x1b[?1049h\x1b[?25l\x1b[?7l"
"""Another screen, no cursor, and long lines are cut."""
_LEAVE = "\x1b[?7h\x1b[?25h\x1b[?1049l"
_HOME, _CLEAR_LINE, _CLEAR_BELOW = "\x1b[H", "\x1b[K", "\x1b[J"
_BELLS = (signal.SIGWINCH, signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGTSTP)
ENDINGS = frozenset({signal.SIGINT, signal.SIGTERM, signal.SIGHUP})


def can_draw(out: TextIO, keys: TextIO, env: Mapping[str, str]) -> bool:
    """Whether this is a terminal on which the cursor can be moved, with somebody at its keys."""
    return out.isatty() and keys.isatty() and env.get("TERM", "dumb") not in ("", "dumb")


def size_of(out: TextIO, env: Mapping[str, str]) -> tuple[int, int]:
    """Columns and lines: of the terminal, else as the environment says, else 80 and 24."""
    with contextlib.suppress(OSError, ValueError):
        size = os.get_terminal_size(out.fileno())
        if size.columns > 0 and size.lines > 0:
            return size.columns, size.lines
    return _number(env.get("COLUMNS"), 80), _number(env.get("LINES"), 24)


def painted(lines: Sequence[Text], *, width: int, env: Mapping[str, str], terminal: bool) -> list[str]:
    """With escape sequences for colour, where the terminal wants that (NO_COLOR, TERM)."""
    console = Console(file=io.StringIO(), force_terminal=terminal, width=width, highlight=False, _environ=dict(env))
    shown = []
    for line in lines:
        with console.capture() as capture:
            console.print(line, end="", overflow="crop", no_wrap=True)
        shown.append(capture.get().rstrip("\n"))
    return shown


class Screen:
    """Use it in `with`. Signals only ring: `wait` tells which."""

    def __init__(self, out: TextIO, keys: TextIO, env: Mapping[str, str]) -> None:
        self._out = out
        self._keys = keys.fileno()
        self._env = env
        self._before: list[Any] = []
        self._handlers: dict[signal.Signals, Any] = {}
        self._rung: set[signal.Signals] = set()
        self._bell, self._rope = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._wakeup = -1

    def __enter__(self) -> Screen:
        self._wakeup = signal.set_wakeup_fd(self._rope, warn_on_full_buffer=False)
        self._handlers = {number: signal.signal(number, self._ring) for number in _BELLS}
        self._take()
        return self

    def __exit__(self, *_: object) -> None:
        self._give_back()
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._wakeup)
        os.close(self._bell)
        os.close(self._rope)

    def size(self) -> tuple[int, int]:
        """Columns and lines as of now."""
        return size_of(self._out, self._env)

    def draw(self, lines: Sequence[Text]) -> None:
        """Over what was there, without a moment in which nothing is."""
        width, _ = self.size()
        shown = (line + _CLEAR_LINE for line in painted(lines, width=width, env=self._env, terminal=True))
        self._write(_HOME + "\r\n".join(shown) + _CLEAR_BELOW)

    def wake(self) -> None:
        """Have `wait` return; any thread may."""
        with contextlib.suppress(BlockingIOError):  # it rings already
            os.write(self._rope, b"\0")

    def wait(self, seconds: float) -> tuple[str, frozenset[signal.Signals]]:
        """Keys that were pressed and signals that came, after `seconds` at the latest; nobody at the keys any more is
        a hangup."""
        ready, _, _ = select.select([self._keys, self._bell], [], [], max(0.0, seconds))
        if self._bell in ready:
            with contextlib.suppress(BlockingIOError):
                os.read(self._bell, 4096)
        pressed = ""
        if self._keys in ready:
            pressed = self._read_keys()
        rung, self._rung = frozenset(self._rung), set()
        return pressed, rung

    def suspend(self) -> None:
        """Ctrl-Z: the shell has the terminal until it says go on."""
        self._give_back()
        os.kill(os.getpid(), signal.SIGSTOP)
        self._take()

    def _read_keys(self) -> str:
        try:
            pressed = os.read(self._keys, 1024)
        except OSError:  # the terminal is gone
            pressed = b""
        if not pressed:
            self._rung.add(signal.SIGHUP)
        return pressed.decode(errors="replace")

    def _ring(self, number: int, _: FrameType | None) -> None:
        self._rung.add(signal.Signals(number))

    def _take(self) -> None:
        self._before = termios.tcgetattr(self._keys)
        tty.setcbreak(self._keys, termios.TCSANOW)
        self._write(_ENTER)

    def _give_back(self) -> None:
        self._write(_LEAVE)
        with contextlib.suppress(termios.error):  # a terminal that is gone has nothing to restore
            termios.tcsetattr(self._keys, termios.TCSANOW, self._before)

    def _write(self, text: str) -> None:
        with contextlib.suppress(OSError):
            self._out.write(text)
            self._out.flush()


def _number(text: str | None, usual: int) -> int:
    return int(text) if text is not None and text.isdecimal() and int(text) else usual


@contextlib.contextmanager
def screen() -> Iterator[Screen]:
    """That of this process."""
    with Screen(sys.stdout, sys.stdin, os.environ) as opened:
        yield opened
