"""How long each stage of a worker's start took."""

from __future__ import annotations

import time
from collections.abc import Callable


class StageClock:
    """Stages follow one another; the first, the imports, began with the process."""

    def __init__(self, *, started: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._stage = "imports"
        self._since = started
        self._seconds: dict[str, float] = {}

    def enter(self, stage: str) -> None:
        """This stage is on from here; said again, it goes on."""
        if stage != self._stage:
            self._count()
            self._stage = stage

    def seconds(self) -> dict[str, float]:
        """Of each stage so far, in the order in which they began."""
        self._count()
        return {stage.replace("-", "_"): round(seconds, 3) for stage, seconds in self._seconds.items()}

    def _count(self) -> None:
        now = self._clock()
        self._seconds[self._stage] = self._seconds.get(self._stage, 0.0) + now - self._since
        self._since = now
