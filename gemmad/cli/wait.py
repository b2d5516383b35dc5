"""`gemmad wait`: for scripts that start the daemon and then use it."""

from __future__ import annotations

import http.client
import time
from pathlib import Path
from typing import Annotated, NamedTuple

import typer

from gemmad.cli.exits import EXIT_INTERRUPTED, fail
from gemmad.cli.health import EXIT_NO_ANSWER, EXIT_NOT_READY, ask_health, find_daemon

LOOK_SECONDS = 0.2
ANSWER_SECONDS = 5.0


class Look(NamedTuple):
    """How it is; `code` is what to leave with if there is no time left."""

    ready: bool
    words: str
    code: int


def wait(
    ready: Annotated[bool, typer.Option("--ready", help="For it to answer requests; so it is without this.")] = False,
    timeout: Annotated[float, typer.Option(help="Seconds to wait at most.", min=0.0)] = 600.0,
    url: Annotated[str | None, typer.Option(help="Where the daemon listens, if it is not found by itself.")] = None,
    config: Annotated[Path | None, typer.Option(help="Configuration file.", metavar="FILE")] = None,
) -> None:
    """Wait until the daemon answers requests, from before it is started on.

    Exit status: 0 ready, 1 it is there and not ready in time (loading, draining), 2 no answer in time, 78 the
    configuration is wrong, 130 interrupted.
    """
    del ready
    give_up = time.monotonic() + timeout
    try:
        while True:
            left = give_up - time.monotonic()
            look = _look(url, config, timeout_seconds=min(max(left, 0.1), ANSWER_SECONDS))
            if look.ready:
                typer.echo(look.words)
                return
            if time.monotonic() + LOOK_SECONDS > give_up:
                fail(f"not ready after {timeout:g} seconds: {look.words}", look.code)
            time.sleep(LOOK_SECONDS)
    except KeyboardInterrupt:
        fail("stopped waiting", EXIT_INTERRUPTED)


def _look(url: str | None, config: Path | None, *, timeout_seconds: float) -> Look:
    """Where it listens is found anew each time: its next life may listen elsewhere."""
    where, connection = find_daemon(url, config, timeout_seconds=timeout_seconds)
    try:
        status, answer = ask_health(connection)
    except (OSError, http.client.HTTPException, ValueError) as error:
        return Look(False, f"no answer at {where}: {error or type(error).__name__}", EXIT_NO_ANSWER)
    finally:
        connection.close()
    words = str(answer.get("status", f"HTTP {status}"))
    if "remedy" in answer:
        words += f": {answer['remedy']}"
    return Look(status == http.client.OK, words, EXIT_NOT_READY)
