"""`python -m gemmad.evaluate WANTED`: the comparing program; `gemmad evaluate` becomes it. WANTED is a `Wanted` as
JSON."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

import msgspec
from rich.console import Console

from gemmad.bench.screen import Interrupted, Screen, console_for_tables, open_screen, raise_on_signals
from gemmad.errors import CheckpointError, ConfigError, MemoryPlanError
from gemmad.evaluate.record import Report, Row
from gemmad.evaluate.table import markdown, print_table, sentence
from gemmad.evaluate.wanted import Wanted

EXIT_FAILED = 1
EXIT_CONFIG = 78


def main(argument: str) -> int:
    """Compare; the return value is the exit status: 0 all went well, 1 something failed, 78 what was asked for cannot
    be had."""
    wanted = msgspec.json.decode(argument, type=Wanted)
    raise_on_signals()
    console = Console(stderr=True, soft_wrap=True)
    with tempfile.TemporaryDirectory(prefix="evaluate-", dir=wanted.scratch) as folder:
        try:
            with open_screen(console, sentence) as screen:
                report, code = _measure(wanted, Path(folder), screen)
        except (CheckpointError, ConfigError, MemoryPlanError) as error:
            console.print(f"gemmad: {error}", markup=False, highlight=False)
            return EXIT_CONFIG
        except Interrupted as signalled:  # before there was anything to show
            return 128 + signalled.number
    print_table(report, console_for_tables())
    if wanted.markdown is not None:
        Path(wanted.markdown).write_text(markdown(report), "utf-8")
    return code


def _measure(wanted: Wanted, folder: Path, screen: Screen[Row]) -> tuple[Report, int]:
    from gemmad.evaluate.run import Run  # torch: seconds

    run = Run(wanted, folder, telling=screen)
    try:
        run.measure()
    except Interrupted as signalled:
        run.recorder.end("interrupted")
        return run.recorder.report, 128 + signalled.number
    failed = any(row.status == "failed" for row in run.recorder.report.rows)
    return run.recorder.report, EXIT_FAILED if failed else 0


if __name__ == "__main__":
    code = main(sys.argv[1])
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # interpreter shutdown with a large CUDA context takes seconds, and nothing is left to do
