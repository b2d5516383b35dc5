"""What the dispatcher counts."""

from __future__ import annotations

import dataclasses
import math

from msgspec import Struct

from gemmad.supervisor.listener import Outlook

RATE_SECONDS = 5.0
"""Half-life of what was counted for the token rate."""


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
    quarantined: int = 0
    """Failed ones that were found out to be what workers died of."""
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


class TokenRate(Struct, frozen=True):
    """Tokens per second, the latest counting most."""

    weight: float = 0.0
    at: float = 0.0

    def after(self, tokens: int, *, now: float) -> TokenRate:
        """With some more."""
        return TokenRate(self._faded(now) + tokens, now)

    def per_second(self, now: float) -> float:
        """As of now."""
        return self._faded(now) * math.log(2) / RATE_SECONDS

    def _faded(self, now: float) -> float:
        return self.weight * math.exp2((self.at - now) / RATE_SECONDS)
