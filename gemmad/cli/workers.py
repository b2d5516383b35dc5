"""What drain, resume and recycle have in common: whom they ask, and how they wait for it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from gemmad.cli.control import ControlError, ask_workers, overview
from gemmad.cli.exits import EXIT_FAILED, EXIT_USAGE, fail

if TYPE_CHECKING:
    from gemmad.api.overview import WorkerOverview

LOOK_SECONDS = 0.2
_ALL = "all"


def worker_names() -> list[str]:
    """Those that a shell may offer; none if the daemon cannot be asked."""
    try:
        return [worker.name for worker in overview().workers]
    except ControlError:
        return []


WorkerName = Annotated[
    str | None,
    typer.Argument(help="Its name, as `gemmad status` shows it.", metavar="WORKER", autocompletion=worker_names),
]
Everyone = Annotated[bool, typer.Option("--all", help="Every worker.")]
Wait = Annotated[bool, typer.Option("--wait", help="Return when it is done.")]
Timeout = Annotated[float, typer.Option(help="Seconds to wait at most.", min=0.1)]


class Outcome(NamedTuple):
    """How it went with one worker."""

    done: bool
    words: str


Judge = Callable[["WorkerOverview", "WorkerOverview"], Outcome | None]
"""From a worker as it was when it was asked, and as it is now. None: it is still under way."""


def ask_and_wait(
    verb: str, worker: str | None, *, everyone: bool, wait_seconds: float | None, told: str, judge: Judge
) -> None:
    """Ask a worker, or all. Without `wait_seconds` print `told` for each, else how it went, or leave with 1."""
    if (worker is None) != everyone:
        fail(f"say who: gemmad {verb} WORKER, or gemmad {verb} --all; `gemmad status` lists them", EXIT_USAGE)
    try:
        asked = ask_workers(verb, worker or _ALL)
        if wait_seconds is None:
            typer.echo("\n".join(told.format(worker=each.name) for each in asked))
        elif not _wait(asked, judge, wait_seconds):
            raise typer.Exit(EXIT_FAILED)
    except ControlError as error:
        fail(str(error), error.code)


def _wait(asked: tuple[WorkerOverview, ...], judge: Judge, seconds: float) -> bool:
    """Tell of each worker how it went, as it is known; whether all is well. Raises ControlError."""
    left = {worker.name: worker for worker in asked}
    give_up, well = time.monotonic() + seconds, True
    while True:
        now = {worker.name: worker for worker in overview().workers}
        for name, before in list(left.items()):
            outcome = judge(before, now[name]) if name in now else Outcome(False, "is not a worker any more")
            if outcome is not None:
                typer.echo(f"{name} {outcome.words}", err=not outcome.done)
                well = well and outcome.done
                del left[name]
        if not left:
            return well
        if time.monotonic() >= give_up:
            typer.echo(f"gemmad: not done after {seconds:g} seconds: {', '.join(left)}", err=True)
            return False
        time.sleep(LOOK_SECONDS)
