"""Rates of counts, and how long first tokens took."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gemmad.monitor.rates import FirstTokens, Rate
from tests.unit.monitor.test_history import Clock


def test_a_rate_is_of_the_last_moments() -> None:
    """It follows a steady count, falls to nothing when that stands still, and survives one that begins anew."""
    rate = Rate(window_seconds=3.0)
    assert [rate.after(100 * i, now=float(i)) for i in range(5)] == [0.0, 100.0, 100.0, 100.0, 100.0]
    assert [round(rate.after(400, now=float(i))) for i in range(5, 9)] == [67, 33, 0, 0]
    assert [rate.after(count, now=9.0 + i) for i, count in enumerate((10, 60))] == [0.0, 50.0]


@given(st.lists(st.integers(0, 1000), max_size=50))
def test_no_rate_is_negative(counts: list[int]) -> None:
    """Whatever a count does."""
    rate = Rate()
    assert all(rate.after(count, now=float(i)) >= 0 for i, count in enumerate(counts))


def test_first_tokens_of_the_last_minute() -> None:
    """Quantiles are of those that were observed within it; none where there were none."""
    clock = Clock()
    waits = FirstTokens(clock=clock)
    assert waits.quantiles(0.5, 0.95) == (None, None)
    waits.observe(9.0)
    clock.now += 61.0
    for tenth in range(1, 101):
        waits.observe(tenth / 10)
    assert waits.quantiles(0.5, 0.95) == (5.1, 9.6)
    clock.now += 61.0
    assert waits.quantiles(0.5) == (None,)
