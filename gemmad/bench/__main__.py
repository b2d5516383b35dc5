"""`python -m gemmad.bench WANTED`: the measuring program; `gemmad bench` becomes it. WANTED is a `Wanted` as JSON."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import msgspec
from rich.console import Console
from rich.status import Status

from gemmad.bench.record import Report, Row
from gemmad.bench.stage import Budget
from gemmad.bench.table import markdown, print_table, sentence
from gemmad.bench.wanted import Wanted
from gemmad.errors import CheckpointError

EXIT_FAILED = 1
EXIT_CONFIG = 78
_PIPE_WIDTH = 170
"""Columns of the table where nobody says how wide it may be."""


class Interrupted(BaseException):
    """A signal asked to end; what there is is still shown."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


class _Screen:
    """Progress on standard error: one line that changes on a terminal, else a line for each figure."""

    def __init__(self, status: Status | None, console: Console) -> None:
        self._status = status
        self._console = console

    def doing(self, words: str) -> None:
        if self._status is not None:
            self._status.update(words)

    def done(self, row: Row) -> None:
        self._console.print(sentence(row), markup=False, highlight=False)


def main(argument: str) -> int:
    """Measure; the return value is the exit status: 0 all went well, 1 something failed, 78 a model that is wrong."""
    wanted = msgspec.json.decode(argument, type=Wanted)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)
    console = Console(stderr=True, soft_wrap=True)
    with tempfile.TemporaryDirectory(prefix="gemmad-bench-") as folder:
        try:
            with _screen(console) as screen:
                report, code = _measure(wanted, Path(folder), screen)
        except CheckpointError as error:
            console.print(f"gemmad: {error}", markup=False, highlight=False)
            return EXIT_CONFIG
        except Interrupted as signalled:  # before there was anything to show
            return 128 + signalled.number
    out = Console()
    print_table(report, out if out.is_terminal else Console(width=_PIPE_WIDTH))
    if wanted.markdown is not None:
        Path(wanted.markdown).write_text(markdown(report), "utf-8")
    return code


@contextlib.contextmanager
def _screen(console: Console) -> Iterator[_Screen]:
    if not console.is_terminal:
        yield _Screen(None, console)
        return
    with console.status("importing torch") as status:
        yield _Screen(status, console)


def _measure(wanted: Wanted, folder: Path, screen: _Screen) -> tuple[Report, int]:
    budget = Budget(wanted.seconds)
    from gemmad.bench.run import Run  # torch: seconds

    run = Run(wanted, folder, telling=screen, budget=budget)
    try:
        run.measure()
    except Interrupted as signalled:
        run.recorder.end("interrupted", seconds=budget.spent)
        return run.recorder.report, 128 + signalled.number
    failed = any(row.status == "failed" for row in run.recorder.report.rows)
    return run.recorder.report, EXIT_FAILED if failed else 0


def _interrupt(number: int, _frame: object) -> None:
    raise Interrupted(number)


if __name__ == "__main__":
    code = main(sys.argv[1])
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # interpreter shutdown with a large CUDA context takes seconds, and nothing is left to do
