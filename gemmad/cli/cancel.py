"""`gemmad cancel`: one request ends now."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import quote

import typer

from gemmad.cli.control import ControlError, ask
from gemmad.cli.exits import fail
from gemmad.cli.requests import ids_for_completion, read_requests


def cancel(
    request_id: Annotated[
        str,
        typer.Argument(help="As `gemmad requests` shows it.", metavar="ID", autocompletion=ids_for_completion),
    ],
) -> None:
    """End a request, with all of its choices; its client is told that an operator did, and not to try again.

    Exit status: 0 it is over, 1 the daemon does not answer, 2 no such request, 3 not running, 4 no access.
    """
    try:
        cancelled = read_requests(ask("POST", f"/requests/{quote(request_id, safe='')}/cancel")).requests
    except ControlError as error:
        fail(str(error), error.code)
    said = sum(request.said_tokens for request in cancelled)
    typer.echo(f"cancelled {request_id} after {said} tokens")
