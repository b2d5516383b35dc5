"""`gemmad reload`: the running daemon reads its configuration again, and says what came of it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated

import typer

from gemmad.cli.control import ControlError, ask, strange_answer
from gemmad.cli.exits import EXIT_FAILED, fail

if TYPE_CHECKING:
    from gemmad.api.overview import Reload

LOOK_SECONDS = 0.2


def reload(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only tell what would change.")] = False,
    wait: Annotated[bool, typer.Option("--wait", help="Wait until a worker has tried what needs new ones.")] = False,
    timeout: Annotated[float, typer.Option(help="Seconds to wait for the outcome.", min=0.1)] = 60.0,
) -> None:
    """Have the running daemon read its configuration again, and wait for the outcome.

    What needs new workers is tried by one of them first, and whether it gets ready is waited for with --wait only.
    Exit status: 0 applied, 1 refused (what is wrong is printed, and the old settings stay), 3 not running, 4 no access.
    """
    try:
        give_up = time.monotonic() + timeout
        outcome = _decode(ask("POST", "/reload?dry_run=1" if dry_run else "/reload", timeout_seconds=timeout))
        if wait and not dry_run:
            outcome = _tried(outcome, give_up=give_up)
    except ControlError as error:
        fail(str(error), error.code)
    if not outcome.ok:
        fail(
            "\n  ".join(["the configuration is refused, and the old one stays in force:", *outcome.errors]), EXIT_FAILED
        )
    for line in told(outcome, dry_run=dry_run):
        typer.echo(line)


def told(outcome: Reload, *, dry_run: bool) -> list[str]:
    """A configuration that is right, one line for each of what it changes."""
    lines = [f"{key}: {'would be ' if dry_run else ''}in force at once" for key in outcome.applied]
    tries = "would be tried by one worker, then in" if dry_run else "one worker tries it now (gemmad status), then in"
    lines += [f"{key}: {tries} force with the others' next lives" for key in outcome.rolling]
    lines += [f"{waiting.key}: in force once the daemon is restarted" for waiting in outcome.pending]
    return lines or ["nothing has changed"]


def _tried(outcome: Reload, *, give_up: float) -> Reload:
    """The same, once no worker tries anything of it. Raises ControlError."""
    from gemmad.cli.control import overview

    while outcome.rolling:
        if time.monotonic() >= give_up:
            raise ControlError("a worker still tries the new settings; `gemmad status` tells more", EXIT_FAILED)
        time.sleep(LOOK_SECONDS)
        outcome = overview().config.reload or outcome
    return outcome


def _decode(body: bytes) -> Reload:
    """Raises ControlError."""
    import msgspec

    from gemmad.api.overview import Reload

    try:
        return msgspec.json.decode(body, type=Reload)
    except msgspec.MsgspecError as error:
        raise strange_answer(error) from None
