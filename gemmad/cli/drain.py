"""`gemmad drain`: a worker finishes what it has, and stays away."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gemmad.cli.workers import Everyone, Outcome, Timeout, Wait, WorkerName, ask_and_wait

if TYPE_CHECKING:
    from gemmad.api.overview import WorkerOverview

_TOLD = "{worker} finishes what it has and stays away until `gemmad resume {worker}`"


def drain(worker: WorkerName = None, everyone: Everyone = False, wait: Wait = False, timeout: Timeout = 660.0) -> None:
    """Let a worker finish its requests and free its device; other workers take what comes.

    With nobody left requests are refused with 503. What still runs after ten minutes moves on.
    Exit status: 0 done, 1 not in time, 2 no such worker, 3 not running, 4 no access.
    """
    seconds = timeout if wait else None
    ask_and_wait("drain", worker, everyone=everyone, wait_seconds=seconds, told=_TOLD, judge=judge)


def judge(before: WorkerOverview, now: WorkerOverview) -> Outcome | None:
    """Done once no process is there."""
    del before
    if not now.drained:
        return Outcome(False, "was resumed meanwhile")
    return Outcome(True, "is drained") if now.state == "stopped" and now.pid is None else None
