"""`python -m gemmad.bench WANTED`: the measuring program; `gemmad bench` becomes it. WANTED is a `Wanted` as JSON."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

import msgspec
from rich.console import Console

from gemmad.bench.record import Report, Row
from gemmad.bench.screen import Interrupted, Screen, console_for_tables, open_screen, raise_on_signals
from gemmad.bench.stage import Budget
from gemmad.bench.table import markdown, print_table, sentence
from gemmad.bench.wanted import Wanted
from gemmad.errors import CheckpointError

EXIT_FAILED = 1
EXIT_CONFIG = 78


def main(argument: str) -> int:
    """Measure; the return value is the exit status: 0 all went well, 1 something failed, 78 a model that is wrong."""
    wanted = msgspec.json.decode(argument, type=Wanted)
    raise_on_signals()
    console = Console(stderr=True, soft_wrap=True)
    with tempfile.TemporaryDirectory(prefix="gemmad-bench-") as folder:
        try:
            with open_screen(console, sentence) as screen:
                report, code = _measure(wanted, Path(folder), screen)
        except CheckpointError as error:
            console.print(f"gemmad: {error}", markup=False, highlight=False)
            return EXIT_CONFIG
        except Interrupted as signalled:  # before there was anything to show
            return 128 + signalled.number
    print_table(report, console_for_tables())
    if wanted.markdown is not None:
        Path(wanted.markdown).write_text(markdown(report), "utf-8")
    return code


def _measure(wanted: Wanted, folder: Path, screen: Screen[Row]) -> tuple[Report, int]:
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


if __name__ == "__main__":
    code = main(sys.argv[1])
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # interpreter shutdown with a large CUDA context takes seconds, and nothing is left to do
