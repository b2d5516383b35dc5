"""`gemmad resume`: a drained worker serves again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gemmad.cli.workers import Everyone, Outcome, Timeout, Wait, WorkerName, ask_and_wait

if TYPE_CHECKING:
    from gemmad.api.overview import WorkerOverview

_TOLD = "{worker} is wanted again"


def resume(worker: WorkerName = None, everyone: Everyone = False, wait: Wait = False, timeout: Timeout = 600.0) -> None:
    """Start a drained worker again; one that serves is left alone.

    Exit status: 0 done, 1 it failed or not in time, 2 no such worker, 3 not running, 4 no access.
    """
    seconds = timeout if wait else None
    ask_and_wait("resume", worker, everyone=everyone, wait_seconds=seconds, told=_TOLD, judge=judge)


def judge(before: WorkerOverview, now: WorkerOverview) -> Outcome | None:
    """Done once it serves; a crash while it loads is tried again, as long as the daemon does."""
    del before
    if now.drained:
        return Outcome(False, "was drained meanwhile")
    if now.state == "failed":
        return Outcome(False, f"failed: {now.last_error}")
    return Outcome(True, "is ready") if now.state == "ready" else None
