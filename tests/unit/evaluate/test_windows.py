from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gemmad.errors import ConfigError
from gemmad.evaluate.wanted import KV, WEIGHTS, Wanted
from gemmad.evaluate.windows import cut


def test_the_second_half_of_each_window_is_scored() -> None:
    """Windows lie side by side, begin as prompts do, and what the last one lacks is left out."""
    windows = cut(range(100, 121), context=8, stride=8, bos_id=2)
    assert [window.tokens for window in windows] == [
        (2, 101, 102, 103, 104, 105, 106, 107),
        (2, 109, 110, 111, 112, 113, 114, 115),
    ]
    assert windows[0].scored == (104, 105, 106, 107)
    assert windows[0].computed == windows[0].tokens[:-1]


def test_a_short_stride_scores_what_is_new() -> None:
    """Windows that overlap score every token behind the first once, in order."""
    windows = cut(range(100, 120), context=8, stride=2, bos_id=2)
    assert [token for window in windows for token in window.scored] == list(range(106, 120))


@given(st.integers(2, 40), st.integers(1, 60), st.integers(0, 80))
def test_no_token_is_scored_twice(context: int, stride: int, more: int) -> None:
    """Whatever the stride, scored tokens rise, and each has half a window before it."""
    windows = cut(range(1000, 1000 + context + more), context=context, stride=stride, bos_id=2)
    scored = [token for window in windows for token in window.scored]
    assert scored == sorted(set(scored))
    assert all(len(window.tokens) == context and window.first >= context - context // 2 for window in windows)


def test_a_text_shorter_than_a_window_is_refused() -> None:
    """It says how many tokens there are."""
    with pytest.raises(ConfigError, match="has 7 tokens, a window 8"):
        cut(range(7), context=8, stride=8, bos_id=2)


def test_only_some_tokens_may_count() -> None:
    """The windows stay what they are; where none counts, there is nothing to tell."""
    counted = [token % 3 == 0 for token in range(16)]
    windows = cut(range(16), context=8, stride=8, bos_id=2, counted=counted)
    assert [window.scored for window in windows] == [(6,), (12, 15)]
    assert [window.rows for window in windows] == [(5,), (3, 6)]
    with pytest.raises(ConfigError, match="no token of the text is scored"):
        cut(range(8), context=8, stride=8, bos_id=2, counted=[True] * 4 + [False] * 4)


def test_the_reference_comes_first() -> None:
    """Whether it was asked for or not; formats of weights stay together, so that each is loaded once."""
    wanted = Wanted(model="m", scratch="/tmp", weights=("int4", "fp8"), kv=("int8",))
    assert wanted.combinations(comes_coded=False) == (("bf16", "bf16"), ("fp8", "int8"), ("int4", "int8"))
    assert len(Wanted(model="m", scratch="/tmp").combinations(comes_coded=False)) == len(WEIGHTS) * len(KV)


def test_codes_are_compared_with_what_they_stand_for() -> None:
    """A checkpoint that comes coded has one format of its own, and its reference is decoded."""
    wanted = Wanted(model="m", scratch="/tmp", kv=("bf16", "fp8"))
    combinations = wanted.combinations(comes_coded=True)
    assert combinations == (("bf16", "bf16"), ("bf16", "fp8"), ("auto", "bf16"), ("auto", "fp8"))
