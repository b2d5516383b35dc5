"""Log-probabilities without sorting are the twin's."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gemmad.kernels.batch import Logprobs
from gemmad.kernels.reference import sampling as twin
from tests.kernels.conftest import DEVICE

pytest.importorskip("triton", reason="triton is not installed")


def told(logits: torch.Tensor, tokens: torch.Tensor, count: int) -> Logprobs:
    """The kernels' answer, cut small so that every part of them has work."""
    from gemmad.kernels.triton import logprobs
    from gemmad.kernels.triton.cut import Cut

    cut = Cut(chunk=64, most=16, likely=32, room=64, stride=128)
    return logprobs.logprobs(logits.to(DEVICE), tokens.to(DEVICE), count=count, cut=cut)


def assert_equal(ours: Logprobs, exact: Logprobs) -> None:
    """The same ids, and numbers that differ by a rounding of float32."""
    assert torch.equal(ours.top_ids, exact.top_ids)
    for mine, wanted in ((ours.token, exact.token), (ours.top, exact.top)):
        torch.testing.assert_close(mine, wanted, rtol=1e-5, atol=1e-5)


@given(
    st.integers(1, 3), st.integers(20, 400), st.integers(1, 16), st.sampled_from([0.1, 3.0, 20.0]), st.booleans(),
    st.integers(0, 1 << 30),
)  # fmt: skip
@settings(max_examples=12)
def test_any_row_equals_the_twin(
    rows: int, vocabulary: int, count: int, spread: float, coarse: bool, seed: int
) -> None:
    """Any logits, as float32 and as the bfloat16 of the head with its ties, and any number of likeliest tokens."""
    random = torch.Generator().manual_seed(seed)
    logits = torch.randn(rows, vocabulary, generator=random) * spread
    logits = logits.bfloat16() if coarse else logits
    tokens = torch.randint(0, vocabulary, (rows,), generator=random)
    assert_equal(told(logits, tokens, count), twin.logprobs(logits.to(DEVICE), tokens.to(DEVICE), count=count))


def test_a_list_that_overflows() -> None:
    """Where far more tokens than expected share the first places, ties still go by id."""
    logits = torch.zeros(2, 300)
    logits[1, 250:] = 1.0
    tokens = torch.tensor([7, 3])
    ours = told(logits, tokens, 5)
    assert ours.top_ids.tolist() == [[0, 1, 2, 3, 4], [250, 251, 252, 253, 254]]
    assert_equal(ours, twin.logprobs(logits.to(DEVICE), tokens.to(DEVICE), count=5))


def test_what_is_impossible_has_no_id() -> None:
    """Where fewer tokens are possible than are asked for, the other places say so."""
    logits = torch.full((1, 100), float("-inf"))
    logits[0, [3, 50]] = torch.tensor([1.0, 2.0])
    ours = told(logits, torch.tensor([9]), 4)
    assert ours.top_ids.tolist() == [[50, 3, -1, -1]]
    assert ours.token.tolist() == [float("-inf")]
    assert_equal(ours, twin.logprobs(logits.to(DEVICE), torch.tensor([9], device=DEVICE), count=4))
