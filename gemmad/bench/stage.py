"""What every scenario is given, and what it gives back: cases, each measured on its own, so that one that fails or
does not fit costs the others nothing."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from gemmad.bench.floor import Cost, Roof
from gemmad.bench.record import Row
from gemmad.bench.rig import Rig
from gemmad.bench.sizes import Sizes


class Budget:
    """The time that a run may take."""

    def __init__(self, seconds: float | None, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._start = clock()
        self._limit = seconds

    @property
    def spent(self) -> float:
        """Seconds since the start."""
        return self._clock() - self._start

    @property
    def left(self) -> float:
        """Seconds; infinite without a limit."""
        return float("inf") if self._limit is None else max(0.0, self._limit - self.spent)

    @property
    def over(self) -> bool:
        """Nothing more should be begun."""
        return self.left <= 0

    def repeats(self, count: int) -> Iterator[int]:
        """0, 1, … below `count`; fewer when time runs out, but one at least."""
        for number in range(count):
            if number and self.over:
                return
            yield number


@dataclass(frozen=True)
class Stage:
    """An engine that is ready, and how to measure it."""

    rig: Rig
    sizes: Sizes
    cost: Cost
    roof: Roof
    budget: Budget
    repeat: int


@dataclass(frozen=True)
class Case:
    """One measurement; it may give several rows. Raises DoesNotApply when it cannot be had."""

    label: str
    measure: Callable[[], Iterable[Row]]
