"""`gemmad status`: the daemon and its workers at one look."""

from __future__ import annotations

import json
import sys
import time
from typing import TYPE_CHECKING, Annotated

import typer

from gemmad.cli.control import ControlError, ask, read_overview, strange_answer
from gemmad.cli.exits import EXIT_FAILED, fail

if TYPE_CHECKING:
    from rich.console import Console

EXIT_SERVING = 0
EXIT_DEGRADED = EXIT_FAILED

WATCH_SECONDS = 1.0
_PLAIN_WIDTH = 1000


def status(
    as_json: Annotated[bool, typer.Option("--json", help="Everything, as JSON; with --watch one line each.")] = False,
    watch: Annotated[bool, typer.Option("--watch", help="Again every second, until Ctrl-C.")] = False,
) -> None:
    """Show the running daemon, its workers and its queue.

    Exit status: 0 serving, 1 degraded (requests are not answered, or a worker that is wanted is not ready), 3 not
    running, 4 no access.
    """
    if watch:
        raise typer.Exit(_watch(as_json=as_json))
    try:
        body = ask("GET", "/status")
        raise typer.Exit(_print_json(body, indent=2) if as_json else _print(body))
    except ControlError as error:
        fail(str(error), error.code)


def _watch(*, as_json: bool) -> int:
    """The exit status of the last look."""
    if not as_json and sys.stdout.isatty():
        return _watch_on_terminal()
    code = EXIT_SERVING
    try:
        while True:
            try:
                body = ask("GET", "/status")
                code = _print_json(body, indent=None) if as_json else _print(body)
            except ControlError as error:  # it may be back soon
                code = error.code
                typer.echo(f"gemmad: {error}", err=True)
            if not as_json:
                typer.echo()
            sys.stdout.flush()
            time.sleep(WATCH_SECONDS)
    except KeyboardInterrupt:
        return code


def _watch_on_terminal() -> int:
    from rich.live import Live
    from rich.text import Text

    from gemmad.cli.status_text import rendered

    code = EXIT_SERVING
    with Live(console=_console(), auto_refresh=False) as live:
        try:
            while True:
                try:
                    seen = read_overview(ask("GET", "/status"))
                    code = EXIT_DEGRADED if seen.degraded else EXIT_SERVING
                    live.update(rendered(seen), refresh=True)
                except ControlError as error:
                    code = error.code
                    live.update(Text(str(error)), refresh=True)
                time.sleep(WATCH_SECONDS)
        except KeyboardInterrupt:
            return code


def _print(body: bytes) -> int:
    """As text; the exit status."""
    from gemmad.cli.status_text import rendered

    seen = read_overview(body)
    console = _console()
    with console.capture() as capture:
        console.print(rendered(seen))
    typer.echo("\n".join(line.rstrip() for line in capture.get().splitlines()))
    return EXIT_DEGRADED if seen.degraded else EXIT_SERVING


def _print_json(body: bytes, *, indent: int | None) -> int:
    """The daemon's own words, whatever version it is of; the exit status."""
    try:
        answer = json.loads(body)
        code = EXIT_DEGRADED if answer["degraded"] else EXIT_SERVING
    except (ValueError, LookupError, TypeError) as error:
        raise strange_answer(error) from None
    typer.echo(json.dumps(answer, indent=indent))
    return code


def _console() -> Console:
    """Colour on a terminal that wants it, else plain text that nothing cuts off."""
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else _PLAIN_WIDTH, highlight=False)
