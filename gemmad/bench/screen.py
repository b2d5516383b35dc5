"""How a measuring program talks to whoever started it: progress, tables, and signals that leave what there is."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

from rich.console import Console
from rich.status import Status

_PIPE_WIDTH = 170
"""Columns of a table where nobody says how wide it may be."""

Row = TypeVar("Row")


class Interrupted(BaseException):
    """A signal asked to end; what there is is still shown."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


class Screen(Generic[Row]):
    """Progress on standard error: one line that changes on a terminal, else a line for each figure."""

    def __init__(self, status: Status | None, console: Console, sentence: Callable[[Row], str]) -> None:
        self._status = status
        self._console = console
        self._sentence = sentence

    def doing(self, words: str) -> None:
        """What goes on now."""
        if self._status is not None:
            self._status.update(words)

    def done(self, row: Row) -> None:
        """A row that came."""
        self._console.print(self._sentence(row), markup=False, highlight=False)


@contextlib.contextmanager
def open_screen(console: Console, sentence: Callable[[Row], str]) -> Iterator[Screen[Row]]:
    """`sentence` tells a row by itself."""
    if not console.is_terminal:
        yield Screen(None, console, sentence)
        return
    with console.status("importing torch") as status:
        yield Screen(status, console, sentence)


def raise_on_signals() -> None:
    """From here on SIGINT and SIGTERM raise Interrupted."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)


def console_for_tables() -> Console:
    """Standard output, wide where it is no terminal."""
    out = Console()
    return out if out.is_terminal else Console(width=_PIPE_WIDTH)


def _interrupt(number: int, _frame: object) -> None:
    raise Interrupted(number)
