"""`gemmad recycle`: a worker is renewed, and nobody notices."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gemmad.cli.workers import Everyone, Outcome, Timeout, Wait, WorkerName, ask_and_wait

if TYPE_CHECKING:
    from gemmad.api.overview import WorkerOverview

_TOLD = "{worker} is renewed when it is its turn"


def recycle(
    worker: WorkerName = None, everyone: Everyone = False, wait: Wait = False, timeout: Timeout = 600.0
) -> None:
    """Replace a worker's process by a new one, with its requests going on; several go one after another.

    A worker that has crashed and waits begins its next life now; one that is drained is left alone.
    Exit status: 0 done, 1 it failed or not in time, 2 no such worker, 3 not running, 4 no access.
    """
    seconds = timeout if wait else None
    ask_and_wait("recycle", worker, everyone=everyone, wait_seconds=seconds, told=_TOLD, judge=judge)


def judge(before: WorkerOverview, now: WorkerOverview) -> Outcome | None:
    """Done once a later life serves."""
    if now.drained:
        return Outcome(False, "was drained meanwhile")
    if now.recycling:
        return None
    if now.state == "ready":
        if now.life > before.life:
            return Outcome(True, f"is ready, life {now.life}")
        return Outcome(False, f"stays as it is: {now.last_recycle}")
    fallen = now.state in {"backoff", "failed"} and now.life > before.life
    return Outcome(False, f"did not get ready: {now.last_error}") if fallen else None
