"""`gemmad memory`: what workers' memory was like over the last hours or days, and what follows from it."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gemmad.cli.control import ControlError, ask, strange_answer
from gemmad.cli.exits import EXIT_FAILED, EXIT_NO_ACCESS, EXIT_NOT_RUNNING, EXIT_USAGE, fail

if TYPE_CHECKING:
    from gemmad.api.dashboard.span import Span
    from gemmad.monitor.sample import MemorySample

SAMPLES = 600
"""Of each worker: as many as a plot has room for."""
TIMEOUT_SECONDS = 30.0
FORMATS = (".png", ".svg")


def memory(
    since: Annotated[
        str, typer.Option(help="How long ago to begin, such as 30m, 24h or 7d, or seconds since the epoch.")
    ] = "24h",
    until: Annotated[str, typer.Option(help="When to end, told the same way.")] = "0s",
    worker: Annotated[str | None, typer.Option(help="Only this one.", metavar="NAME")] = None,
    plot: Annotated[
        Path | None, typer.Option(help="Draw it into this file, .png or .svg; needs gemmad[plot].", metavar="FILE")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Samples and suggestions, as JSON.")] = False,
) -> None:
    """Show what the memory of each worker was like, and suggest what follows from it.

    The running daemon is asked; if there is none, what the last one kept is read from its state folder.

    Exit status: 0 shown, 1 it cannot be read or drawn, 2 a mistake in the command, or no such worker, 3 no daemon is
    running and none has kept anything, 4 no access.
    """
    if plot is not None and plot.suffix.lower() not in FORMATS:
        fail(f"--plot {plot}: the name has to end in {' or '.join(FORMATS)}", EXIT_USAGE)
    span = _span(since, until)
    samples, origin = _samples(span)
    if worker is not None:
        samples = _only(worker, samples)
    if plot is not None:
        _draw(samples, plot)
    if as_json:
        typer.echo(_json(samples))
    elif samples:
        from gemmad.cli.memory_text import lines

        for line in lines(samples, origin=origin):
            typer.echo(line)
    else:
        typer.echo(f"no samples of that time, {origin}", err=not sys.stdout.isatty())


def _span(since: str, until: str) -> Span:
    from gemmad.api.dashboard.span import span_of
    from gemmad.errors import InvalidRequestError

    try:
        return span_of({"since": since, "until": until, "limit": str(SAMPLES)}, now=time.time())
    except InvalidRequestError as error:
        fail(f"--{error.param}: {error.message}", EXIT_USAGE)


def _samples(span: Span) -> tuple[tuple[MemorySample, ...], str]:
    """With words for where they are from."""
    import msgspec

    from gemmad.monitor.sample import Samples

    path = f"/memory?since={span.since:.3f}&until={span.until:.3f}&limit={span.limit}"
    try:
        body = ask("GET", path, timeout_seconds=TIMEOUT_SECONDS)
        return msgspec.json.decode(body, type=Samples).samples, "as the running daemon tells"
    except msgspec.MsgspecError as error:
        fail(str(strange_answer(error)), EXIT_FAILED)
    except ControlError as error:
        if error.code != EXIT_NOT_RUNNING:
            fail(str(error), error.code)
    return _kept(span)


def _kept(span: Span) -> tuple[tuple[MemorySample, ...], str]:
    """By the last daemon, in the first state folder that has something."""
    import sqlite3

    from gemmad.errors import GemmadError
    from gemmad.monitor.samplefile import SampleFile

    files = _files()
    for path in files:
        try:
            file = SampleFile.open_to_read(path)
        except FileNotFoundError:
            continue
        except PermissionError:
            fail(f"no daemon is running, and no access to {path}", EXIT_NO_ACCESS)
        except (sqlite3.Error, OSError, GemmadError) as error:
            fail(f"{path} cannot be read: {error}", EXIT_FAILED)
        try:
            samples = tuple(file.read(since=span.since, until=span.until, limit=span.limit))
        except sqlite3.Error as error:
            fail(f"{path} cannot be read: {error}", EXIT_FAILED)
        finally:
            file.close()
        return samples, f"as {path} has it, for no daemon is running"
    fail(f"no daemon is running, and none has kept anything in {' or '.join(map(str, files))}", EXIT_NOT_RUNNING)


def _files() -> tuple[Path, ...]:
    """Where samples may be kept: in the state folder that is named, else the user's or the system's."""
    from gemmad.config.paths import find_paths
    from gemmad.monitor.samplefile import FILE_NAME

    folders = (find_paths(os.environ).state_dir, find_paths({}, uid=0).state_dir)
    return tuple(dict.fromkeys(folder / FILE_NAME for folder in folders))


def _only(worker: str, samples: tuple[MemorySample, ...]) -> tuple[MemorySample, ...]:
    names = sorted({sample.worker for sample in samples})
    if names and worker not in names:
        fail(f"there is no worker {worker!r} in that time; there are {', '.join(names)}", EXIT_USAGE)
    return tuple(sample for sample in samples if sample.worker == worker)


def _draw(samples: tuple[MemorySample, ...], path: Path) -> None:
    if not samples:
        fail("nothing to draw: there are no samples of that time", EXIT_FAILED)
    try:
        import matplotlib as _  # noqa: F401 - an extra
    except ImportError:
        fail("--plot needs matplotlib: pip install 'gemmad[plot]'", EXIT_FAILED)
    from gemmad.cli.memory_plot import draw

    try:
        draw(samples, path)
    except OSError as error:
        fail(f"--plot: {error}", EXIT_FAILED)
    typer.echo(f"drawn into {path}", err=True)


def _json(samples: tuple[MemorySample, ...]) -> str:
    import msgspec

    from gemmad.monitor.advice import suggestions

    body = {"samples": samples, "suggestions": suggestions(samples)}
    return json.dumps(msgspec.to_builtins(body), indent=2)
