"""One admitted request as operators may see it: where it is and how far, never what was written."""

from __future__ import annotations

from msgspec import Struct

from gemmad.dispatch.blame import Treatment
from gemmad.dispatch.entry import Entry


class Listed(Struct, frozen=True, kw_only=True):
    """A request, or one choice of it, as of now. Times are seconds ago."""

    request_id: str
    """What the client knows it by; its choices share it."""
    worker: str | None
    """At whom it is; None: it waits."""
    suspect: bool
    """Workers that it was with have died, so it runs alone or waits for that."""
    age_seconds: float
    """Since it was admitted."""
    worker_seconds: float | None
    """Since a worker got it, the last time."""
    prompt_tokens: int
    images: int
    said_tokens: int
    max_tokens: int
    priority: int
    failovers: int
    """Workers that it has outlived."""


def listed(entry: Entry, *, now: float) -> Listed:
    """It, at `now` on the dispatcher's clock."""
    ticket, desk = entry.ticket, entry.desk
    request, journey = ticket.request, ticket.journey
    handed_at = None if desk is None else journey.handed_at
    return Listed(
        request_id=request.request_id,
        worker=None if desk is None else desk.worker.name,
        suspect=entry.record.treatment() is not Treatment.WITH_OTHERS,
        age_seconds=round(max(0.0, now - journey.submitted_at), 3),
        worker_seconds=None if handed_at is None else round(max(0.0, now - handed_at), 3),
        prompt_tokens=len(request.prompt.token_ids),
        images=len(request.prompt.images),
        said_tokens=len(ticket.said),
        max_tokens=request.sampling.max_tokens,
        priority=request.priority,
        failovers=ticket.failovers,
    )
