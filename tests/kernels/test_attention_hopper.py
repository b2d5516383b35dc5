"""Hopper's own attention kernel equals its twin, and keeps to the order in which data may be called and read."""

from __future__ import annotations

import random

import pytest
import torch

from gemmad.kernels.batch import AttentionBatch
from gemmad.kernels.pages import Pages
from gemmad.kernels.reference.attention import group_queries
from gemmad.kernels.reference.attention import paged_attention as twin
from tests.kernels import gluon_on_torch
from tests.kernels.batches import paged

hopper = gluon_on_torch.played("hopper")


def shapes(chance: random.Random) -> list[tuple[int, int, int]]:
    """Sequences of (computed before, new tokens, image tokens among them)."""
    found = []
    for _ in range(chance.randint(1, 2)):
        new = chance.choice([1, chance.randint(2, 150)])
        found.append((chance.choice([0, chance.randint(0, 250)]), new, chance.choice([0, 0, min(40, new)])))
    return found


@pytest.mark.parametrize("rows", [64, 128])
@pytest.mark.parametrize("late", [False, True], ids=["early", "late"])
@pytest.mark.parametrize("seed", range(5))
def test_equals_its_twin(seed: int, late: bool, rows: int) -> None:
    """Any lengths, windows and images, heads or tokens first within a page, whenever copies and products come."""
    chance = random.Random(seed)
    window, page = chance.choice([None, None, 7, 64, 150]), chance.choice([64, 128])
    q, keys, values, batch = paged(shapes(chance), page=page, window=window, seed=seed)
    if seed % 2:
        keys, values = (pages.transpose(1, 2).contiguous().transpose(1, 2) for pages in (keys, values))
    gluon_on_torch.PROGRAM["late"] = late
    out = hopper.prefill(q, Pages(keys, values), batch, scale=0.125, rows=rows)
    exact = twin(q.float(), Pages(keys.float(), values.float()), group_queries(batch), scale=0.125)
    torch.testing.assert_close(out.float(), exact, rtol=2e-2, atol=2e-2)


def test_what_it_serves() -> None:
    """Only bfloat16 in pages of whole blocks, and only a Hopper."""
    pages = torch.zeros(3, 64, 2, 64, dtype=torch.bfloat16)
    assert not hopper.can_prefill(torch.zeros(5, 4, 64, dtype=torch.bfloat16), Pages(pages, pages))
    assert hopper._plane(pages) == (128, 64, 0, 64)
    heads_first = torch.zeros(3, 2, 64, 64, dtype=torch.bfloat16).transpose(1, 2)
    assert hopper._plane(heads_first) == (64, 128, 64, 0)
    assert hopper._plane(pages[:, :, :1]) is None


def test_padding_does_no_harm() -> None:
    """Rows after the last sequence's and sequences without tokens, as a captured graph has them, change nothing."""
    q, keys, values, batch = paged([(70, 60, 0)], page=64, window=None, seed=1)
    padded = AttentionBatch(**{
        **vars(batch),
        "query_starts": torch.tensor([0, 60, 60, 60], dtype=torch.int32),
        "context_lens": torch.tensor([130, 0, 0], dtype=torch.int32),
        "positions": torch.cat([batch.positions, torch.zeros(40, dtype=torch.int64)]),
        "reach": torch.cat([batch.reach, torch.full((40,), -1)]),
    })  # fmt: skip
    longer = torch.cat([q, torch.randn(40, *q.shape[1:]).bfloat16()])
    gluon_on_torch.PROGRAM["late"] = True
    out = hopper.prefill(longer, Pages(keys, values), padded, scale=0.125)
    torch.testing.assert_close(out[:60], hopper.prefill(q, Pages(keys, values), batch, scale=0.125))
