"""What per second, and how long until the first token: of the last moments, in bounded room."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

WINDOW_SECONDS = 3.0
"""Workers tell their counts twice a second: over less than some of those a rate would jump."""
RECENT_SECONDS = 60.0
RECENT_LIMIT = 10_000


class Rate:
    """Of one count that only rises; where it falls it has begun anew."""

    def __init__(self, *, window_seconds: float = WINDOW_SECONDS) -> None:
        """Over what time it is the mean."""
        self._window_seconds = window_seconds
        self._seen: deque[tuple[float, int]] = deque()

    def after(self, count: int, *, now: float) -> float:
        """Per second, as of a count that is new; 0 at the first."""
        if self._seen and count < self._seen[-1][1]:
            self._seen.clear()
        self._seen.append((now, count))
        while len(self._seen) > 2 and self._seen[1][0] <= now - self._window_seconds:
            self._seen.popleft()
        since, before = self._seen[0]
        return (count - before) / (now - since) if now > since else 0.0


class FirstTokens:
    """How long requests waited for their first token, those that got it in the last minute."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._seen: deque[tuple[float, float]] = deque(maxlen=RECENT_LIMIT)

    def observe(self, seconds: float) -> None:
        """One got it now, after so long."""
        self._seen.append((self._clock(), seconds))

    def quantiles(self, *shares: float) -> tuple[float | None, ...]:
        """For each share of them the time within which so many had it (nearest rank); None if there were none."""
        since = self._clock() - RECENT_SECONDS
        while self._seen and self._seen[0][0] < since:
            self._seen.popleft()
        waits = sorted(seconds for _, seconds in self._seen)
        if not waits:
            return (None,) * len(shares)
        return tuple(round(waits[min(len(waits) - 1, int(share * len(waits)))], 4) for share in shares)
