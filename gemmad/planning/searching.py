"""The largest number that fits, where all smaller ones do then."""

from __future__ import annotations

from collections.abc import Callable


def largest_that_fits(low: int, high: int, fits: Callable[[int], bool]) -> int | None:
    """The largest of [low, high) that fits, given that all smaller ones do then; None when `low` does not."""
    if low >= high or not fits(low):
        return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low
