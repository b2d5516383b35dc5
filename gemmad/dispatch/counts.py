"""What the dispatcher counts."""

from __future__ import annotations

import dataclasses

from msgspec import Struct

from gemmad.supervisor.listener import Outlook


@dataclasses.dataclass
class Counts:
    """Totals since the daemon's start. Every request is refused, or admitted and in the end one of the next three."""

    requests: int = 0
    refused: int = 0
    finished: int = 0
    failed: int = 0
    abandoned: int = 0
    failovers: int = 0
    """Times that a request moved on because its worker was gone."""
    prompt_tokens: int = 0
    """Of finished requests."""
    generated_tokens: int = 0


class DispatchStatus(Struct, frozen=True, kw_only=True):
    """What there is to see of the dispatcher now."""

    waiting: int
    running: int
    workers_ready: int
    outlook: Outlook
    draining: bool
    tokens_per_second: float
    service_seconds: float
    """Running mean of a finished request's time at its worker."""
    counts: Counts
