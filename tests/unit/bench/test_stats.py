from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gemmad.bench.stats import Spread, quantile, spread

samples = st.lists(st.floats(0, 1e6), min_size=1, max_size=40)


def test_a_spread_tells_middle_and_ends() -> None:
    """The median is not moved by one bad sample; the ends show it."""
    assert spread([3.0, 1.0, 900.0]) == Spread(median=3.0, low=1.0, high=900.0, count=3)


@given(samples, st.floats(0, 1))
def test_quantiles_are_numpys(values: list[float], share: float) -> None:
    """Any quantile of any samples is what numpy gives by default."""
    assert quantile(values, share) == pytest.approx(np.quantile(values, share), rel=1e-9, abs=1e-9)
