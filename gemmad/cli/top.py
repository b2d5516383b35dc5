"""`gemmad top`: the running daemon in a terminal, once a second."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from gemmad.cli.control import ControlError, ask, strange_answer
from gemmad.cli.exits import fail

if TYPE_CHECKING:
    from rich.text import Text

    from gemmad.cli.top_picture import Picture
    from gemmad.cli.top_screen import Screen

T = TypeVar("T")

ASK_SECONDS = 3.0
PLAIN_LINES = 60
"""Of a frame that goes to no terminal."""


def top(
    once: Annotated[bool, typer.Option("--once", help="Print one frame and leave.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print all that is shown, once, as JSON.")] = False,
    interval: Annotated[float, typer.Option(help="Seconds between two looks.", min=0.1, max=3600.0)] = 1.0,
) -> None:
    """Show workers, memory, speed, requests and log of the running daemon, again every second.

    Keys: q quits, p pauses, s sorts the requests otherwise. What does not fit is left out; a daemon that goes and comes
    back is waited for. What is no terminal gets one frame.

    Exit status: 0 left, or shown, 1 the daemon does not answer, 3 not running, 4 no access.
    """
    from gemmad.cli.top_screen import can_draw, screen

    try:
        if as_json:
            typer.echo(ask("GET", "/snapshot", timeout_seconds=ASK_SECONDS))
            return
        if once or not can_draw(sys.stdout, sys.stdin, os.environ):
            _print_once()
            return
    except ControlError as error:
        fail(str(error), error.code)
    with screen() as opened:
        ending = _watch(opened, interval)
    if ending in (signal.SIGTERM, signal.SIGHUP):  # whoever sent it is told by the exit status that it was heeded
        signal.signal(ending, signal.SIG_DFL)
        os.kill(os.getpid(), ending)


def look(picture: Picture) -> Picture:
    """The picture after one more look. Raises ControlError."""
    from gemmad.api.dashboard.snapshot import LivePoints, Snapshot

    began_anew = picture.snapshot is None or picture.trouble is not None
    if began_anew:
        picture = picture.with_points(_answer("/live", LivePoints).points)
    after = "" if began_anew or not picture.log else f"?after={picture.log[-1].number}"
    return picture.with_snapshot(_answer(f"/snapshot{after}", Snapshot))


def _answer(path: str, kind: type[T]) -> T:
    import msgspec

    try:
        return msgspec.json.decode(ask("GET", path, timeout_seconds=ASK_SECONDS), type=kind)
    except msgspec.MsgspecError as error:
        raise strange_answer(error) from None


def _print_once() -> None:
    from gemmad.cli.top_picture import Picture
    from gemmad.cli.top_screen import painted, size_of

    seen = look(Picture())
    terminal = sys.stdout.isatty()
    width, height = size_of(sys.stdout, os.environ)
    lines = _lines(seen, width=width, height=height - 1 if terminal else PLAIN_LINES)
    for line in painted(lines, width=width, env=os.environ, terminal=terminal):
        typer.echo(line if terminal else line.rstrip())


def _lines(picture: Picture, *, width: int, height: int) -> list[Text]:
    from gemmad.cli.top_glyphs import glyphs_for
    from gemmad.cli.top_view import view

    return view(picture, width=width, height=height, now=time.monotonic(), glyphs=glyphs_for(sys.stdout.encoding))


def _watch(screen: Screen, interval_seconds: float) -> signal.Signals | None:
    """Draw until somebody wants to leave; the signal that said so, if it was one."""
    from gemmad.cli.top_screen import ENDINGS

    with _Looker(interval_seconds, screen.wake) as looker:
        while True:
            width, height = screen.size()
            screen.draw(_lines(looker.picture(), width=width, height=height))
            keys, rung = screen.wait(interval_seconds)
            if ending := ENDINGS & rung:
                return next(iter(ending))
            if signal.SIGTSTP in rung:
                screen.suspend()
            for key in keys:
                if key in "qQ\x03\x04":
                    return None
                looker.press(key)


class _Looker:
    """A thread that asks the daemon, so that keys are heard while it is silent. Its picture may be had at any time."""

    def __init__(self, interval_seconds: float, changed: Callable[[], None]) -> None:
        """`changed` is called in the thread, after each look."""
        from gemmad.cli.top_picture import Picture

        self._interval_seconds = interval_seconds
        self._changed = changed
        self._lock = threading.Lock()
        self._picture = Picture()
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)  # nobody waits for an answer at the end

    def __enter__(self) -> _Looker:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with self._lock:  # so nobody is told anything after this
            self._closed.set()

    def picture(self) -> Picture:
        """As of the last look."""
        with self._lock:
            return self._picture

    def press(self, key: str) -> None:
        """p and s; other keys mean nothing."""
        import msgspec

        with self._lock:
            now = self._picture
            if key in "pP":
                self._picture = msgspec.structs.replace(now, paused=not now.paused)
            elif key in "sS":
                self._picture = msgspec.structs.replace(now, sort=now.sort.next)

    def _run(self) -> None:
        while not self._closed.is_set():
            began = time.monotonic()
            before = self.picture()
            if not before.paused:
                self._take(self._look(before))
            self._closed.wait(max(0.05, self._interval_seconds - (time.monotonic() - began)))

    def _look(self, before: Picture) -> Picture:
        try:
            return look(before)
        except ControlError as error:
            return before.with_trouble(str(error), now=time.monotonic())

    def _take(self, seen: Picture) -> None:
        """What was pressed meanwhile holds."""
        import msgspec

        with self._lock:
            self._picture = msgspec.structs.replace(seen, paused=self._picture.paused, sort=self._picture.sort)
            if not self._closed.is_set():
                self._changed()
