"""Penalties, bias and grammar in one pass are the twin's."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gemmad.kernels.batch import SteeringBatch
from gemmad.kernels.reference import steering as twin
from tests.kernels.conftest import DEVICE

pytest.importorskip("triton", reason="triton is not installed")

SLOTS, BIASES = 6, 5


def mixture(rows: int, vocabulary: int, *, seed: int) -> SteeringBatch:
    """Rows that want nothing, each thing alone, and all of it, with tables that are full of other rows' things."""
    chance = torch.Generator().manual_seed(seed)
    words = -(-vocabulary // 32)

    def some(low: int, high: int, *size: int) -> torch.Tensor:
        return torch.randint(low, high, size, generator=chance, dtype=torch.int32)

    said = some(0, 4, SLOTS, vocabulary) * some(0, 2, SLOTS, vocabulary) + twin.IN_PROMPT * some(
        0, 2, SLOTS, vocabulary
    )
    ids = torch.stack([torch.randperm(vocabulary, generator=chance)[:BIASES] for _ in range(SLOTS)])
    slots = torch.randperm(SLOTS, generator=chance)[:rows]
    values: dict[str, Any] = {
        "slot": torch.where(some(0, 3, rows) > 0, slots, -1).int(),
        "repetition": 1 + some(0, 2, rows) * torch.rand(rows, generator=chance),
        "frequency": some(0, 2, rows) * torch.randn(rows, generator=chance),
        "presence": some(0, 2, rows) * torch.randn(rows, generator=chance),
        "said": said.to(torch.int16),
        "bias_ids": torch.where(some(0, 2, SLOTS, BIASES) > 0, ids, -1).int(),
        "bias": 10 * torch.randn(SLOTS, BIASES, generator=chance),
        "mask_row": torch.where(some(0, 2, rows) > 0, torch.arange(rows).flip(0), -1).int(),
        "masks": torch.randint(-(1 << 31), 1 << 31, (rows, words), generator=chance).int(),
    }
    return SteeringBatch(**{name: value.to(DEVICE) for name, value in values.items()})


@given(st.integers(1, 5), st.integers(BIASES, 300), st.booleans(), st.integers(0, 1 << 30))
@settings(max_examples=25)
def test_any_mixture_of_rows_equals_the_twin(rows: int, vocabulary: int, coarse: bool, seed: int) -> None:
    """Any rows beside each other, over float32 and the head's bfloat16, with tokens that are impossible already."""
    from gemmad.kernels.triton import steering

    logits = torch.randn(rows, vocabulary, generator=torch.Generator().manual_seed(seed)) * 5
    logits[:, ::7] = float("-inf")
    logits = (logits.bfloat16() if coarse else logits).to(DEVICE)
    before, batch = logits.clone(), mixture(rows, vocabulary, seed=seed)
    ours, wanted = steering.steer(logits, batch, chunk=64), twin.steer(logits, batch)
    assert ours.dtype == wanted.dtype == torch.float32
    assert torch.equal(logits, before)
    torch.testing.assert_close(ours, wanted, rtol=1e-6, atol=1e-6)
    nothing = (batch.slot < 0) & (batch.mask_row < 0)
    assert torch.equal(ours[nothing], logits.float()[nothing])


@given(st.integers(1, 5), st.integers(0, 1 << 30))
@settings(max_examples=15)
def test_what_was_said_is_counted_as_the_twin_counts_it(rows: int, seed: int) -> None:
    """One more for each row with a slot, whatever the prompt has, and no more than fits."""
    from gemmad.kernels.triton import steering

    batch = mixture(rows, 40, seed=seed)
    batch.said[:, :3] = torch.tensor([0x7FFF, -1, twin.IN_PROMPT], dtype=torch.int16, device=DEVICE)
    tokens = torch.randint(0, 6, (rows,), generator=torch.Generator().manual_seed(seed)).to(DEVICE)
    other = replace(batch, said=batch.said.clone())
    steering.count_said(tokens, batch)
    twin.count_said(tokens, other)
    assert torch.equal(batch.said, other.said)


def test_the_size_that_is_used() -> None:
    """As it is cut for a whole vocabulary it gives the twin's logits over part of one."""
    from gemmad.kernels.triton import steering

    logits = torch.randn(3, 9000, generator=torch.Generator().manual_seed(5)).bfloat16().to(DEVICE)
    batch = mixture(3, 9000, seed=1)
    torch.testing.assert_close(steering.steer(logits, batch), twin.steer(logits, batch), rtol=1e-6, atol=1e-6)
