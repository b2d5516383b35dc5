"""Which time a question about the past means: `?since=24h&until=1h&limit=500`."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct

from gemmad.config.quantities import parse_duration
from gemmad.errors import InvalidRequestError

SINCE = "24h"
LIMIT, MOST = 500, 10_000
"""Samples of each worker."""
_EPOCH_FROM = 1e9
"""A number from here on is a moment in seconds since the epoch: as a duration it would be thirty years."""


class Span(Struct, frozen=True):
    """From `since` to `until`, in seconds since the epoch, and how many samples of each worker are enough."""

    since: float
    until: float
    limit: int


def span_of(query: Mapping[str, str], *, now: float) -> Span:
    """What a query asks for. Each end is a duration before `now` or seconds since the epoch; without any it is the last
    day. Raises InvalidRequestError."""
    since = _moment(query.get("since") or SINCE, name="since", now=now)
    until = _moment(query.get("until") or "0s", name="until", now=now)
    if since > until:
        raise InvalidRequestError("since is later than until.", param="since")
    text = query.get("limit") or str(LIMIT)
    if not (text.isascii() and text.isdigit() and len(text) < 9 and 1 <= int(text) <= MOST):
        raise InvalidRequestError(f"limit is a number from 1 to {MOST}.", param="limit")
    return Span(since, until, int(text))


def _moment(text: str, *, name: str, now: float) -> float:
    try:
        seconds = float(parse_duration(text[:100]))
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < 1e12:  # what is no number is not either
        words = f"{name} is a duration before now, such as 30m or 24h, or a moment in seconds since the epoch."
        raise InvalidRequestError(words, param=name)
    return seconds if seconds >= _EPOCH_FROM else now - seconds
