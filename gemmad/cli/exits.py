"""Exit codes, and how a verb says what went wrong: plain words on standard error, no traceback."""

from __future__ import annotations

from typing import NoReturn

import typer

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_NOT_RUNNING = 3
EXIT_NO_ACCESS = 4
EXIT_TRY_AGAIN = 75
"""EX_TEMPFAIL: the same command may work later (a port in use)."""
EXIT_CONFIG = 78
"""EX_CONFIG: nothing changes until a setting does."""

EXIT_INTERRUPTED = 130
"""Ctrl-C, as shells tell it."""


def fail(words: str, code: int) -> NoReturn:
    """Say `words` and leave with `code`."""
    typer.echo(f"gemmad: {words}", err=True)
    raise typer.Exit(code)


def refuse_config(words: str) -> NoReturn:
    """Say what is wrong with the settings, one line each, and leave with `EXIT_CONFIG`."""
    lines = words.splitlines()
    if len(lines) > 1:
        words = "\n  ".join([f"{len(lines)} errors in the configuration:", *lines])
    fail(words, EXIT_CONFIG)
