"""What the dispatcher counts."""

from __future__ import annotations

import pytest

from gemmad.dispatch.counts import TokenRate


def test_token_rate_follows_the_present() -> None:
    """A steady stream is measured as what it is, and fades when it ends."""
    rate, now = TokenRate(), 0.0
    for _ in range(1000):
        now += 0.1
        rate = rate.after(10, now=now)
    assert rate.per_second(now) == pytest.approx(100, rel=0.02)
    assert rate.per_second(now + 60) < 1
