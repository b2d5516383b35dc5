"""Samples to figures."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

from msgspec import Struct


class Spread(Struct, frozen=True):
    """What is told of repeated measurements of one thing."""

    median: float
    low: float
    high: float
    count: int


def spread(samples: Sequence[float]) -> Spread:
    """Of at least one sample."""
    return Spread(statistics.median(samples), min(samples), max(samples), len(samples))


def quantile(samples: Sequence[float], share: float) -> float:
    """Linear between the two nearest samples, as numpy does by default; `share` lies in [0, 1]."""
    ordered = sorted(samples)
    place = share * (len(ordered) - 1)
    below = math.floor(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (place - below)
