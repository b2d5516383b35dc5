"""Who gets a request, and when: pure choices over what is known of the workers.

The queue stays in the daemon. A worker is handed what it can compute at a time and a small backlog, so that its next
step is never empty; whatever else waits can still go to whoever is free first, and is not lost with a worker.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Generic, TypeVar

from msgspec import Struct

from gemmad.generation import Capacity

RETRY_AFTER_LIMITS = (1.0, 120.0)
"""Seconds; above the upper one the official SDKs do not retry at all."""
UNMEASURED_SECONDS = 10.0
"""How long a request takes, as long as none has been measured."""
MEMORY = 0.1
"""Weight of the latest measurement in a running mean."""

RATE_SECONDS = 5.0
"""Half-life of what was counted for the token rate."""

W = TypeVar("W")


class Standing(Struct, Generic[W], frozen=True, kw_only=True):
    """One ready worker, as far as the choice depends on it."""

    worker: W
    capacity: Capacity
    sequences: int
    """Requests that it was handed and that have not ended."""
    tokens: int
    """Prompt and reply tokens of those, so far."""
    held_tokens: int = 0
    """Tokens of the prompt in question that it holds already."""


def choose(standings: Sequence[Standing[W]], *, prompt_tokens: int) -> W | None:
    """The worker with the least to do for its size, or None: wait. The first of equals."""
    free = [standing for standing in standings if standing.sequences < places(standing.capacity)]
    if not free:
        return None
    return min(free, key=lambda standing: _fullness(standing, prompt_tokens)).worker


def places(capacity: Capacity) -> int:
    """How many requests a worker is handed at most."""
    return capacity.max_sequences + 1 + capacity.max_sequences // 16


def _fullness(standing: Standing[W], prompt_tokens: int) -> float:
    """Work over capacity, once the request were there: sequences share the step, tokens the pages."""
    capacity = standing.capacity
    tokens = standing.tokens + max(0, prompt_tokens - standing.held_tokens)
    page_room = max(1, capacity.full_pages * capacity.page_tokens)
    return (standing.sequences + 1) / capacity.max_sequences + tokens / page_room


def may_wait(*, waiting: int, max_waiting: int) -> bool:
    """Whether the queue has room for one more."""
    return waiting < max_waiting


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


class ServiceTime(Struct, frozen=True):
    """Running mean of how long requests take at a worker, from hand-over to end."""

    seconds: float = UNMEASURED_SECONDS
    measured: bool = False

    def after(self, seconds: float) -> ServiceTime:
        """With one more measurement."""
        if not self.measured:
            return ServiceTime(seconds, measured=True)
        return ServiceTime(self.seconds + MEMORY * (seconds - self.seconds), measured=True)


def turn_in_seconds(service: ServiceTime, *, waiting: int, running: int) -> float:
    """When a request that came now would have its turn, for Retry-After.

    By Little's law `running` requests that take `seconds` each end at running / seconds a second, and one for each
    that waits must end first.
    """
    return clamp_retry((waiting + 1) * service.seconds / max(1, running))


def clamp_retry(seconds: float) -> float:
    """Within what clients honour."""
    least, most = RETRY_AFTER_LIMITS
    return min(most, max(least, seconds))
