"""Paged attention equals attention written out in full."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gemmad.kernels.batch import AttentionBatch
from gemmad.kernels.pages import Pages
from gemmad.kernels.reference.attention import group_queries, paged_attention

HEADS, KV_HEADS, DIM = 4, 2, 8


def written_out(
    q: torch.Tensor, keys: list[torch.Tensor], values: list[torch.Tensor], batch: AttentionBatch, scale: float
) -> torch.Tensor:
    """Softmax over every key that a query may see, one query and one head at a time, in float64."""
    out = torch.zeros_like(q)
    starts = batch.query_starts.tolist()
    for s in range(len(starts) - 1):
        for row in range(starts[s], starts[s + 1]):
            position, reach = int(batch.positions[row]), int(batch.reach[row])
            low = 0 if batch.window is None else max(0, position - batch.window + 1)
            for head in range(HEADS):
                group = head // (HEADS // KV_HEADS)
                k, v = keys[s][low : reach + 1, group].double(), values[s][low : reach + 1, group].double()
                weights = (k @ q[row, head].double() * scale).softmax(0)
                out[row, head] = (weights @ v).float()
    return out


def random_batch(shapes: list[tuple[int, int, int]], *, page: int, window: int | None, seed: int) -> Any:
    """Sequences of (computed before, new tokens, image length at the chunk's start; 0 is none) on shuffled pages."""
    random = torch.Generator().manual_seed(seed)
    totals = [before + new for before, new, _ in shapes]
    counts = [math.ceil(total / page) for total in totals]
    numbers = torch.split_with_sizes(torch.randperm(sum(counts) + 3, generator=random)[: sum(counts)], counts)
    key_pages = torch.randn(sum(counts) + 3, page, KV_HEADS, DIM, generator=random)
    value_pages = torch.randn(sum(counts) + 3, page, KV_HEADS, DIM, generator=random)
    table = torch.zeros(len(shapes), max(counts), dtype=torch.int32)
    positions: list[int] = []
    reach: list[int] = []
    starts = [0]
    for row, ((before, new, image), pages) in enumerate(zip(shapes, numbers, strict=True)):
        table[row, : len(pages)] = pages
        positions += range(before, before + new)
        reach += [before + image - 1 if i < image else before + i for i in range(new)]
        starts.append(starts[-1] + new)
    batch = AttentionBatch(
        query_starts=torch.tensor(starts, dtype=torch.int32),
        context_lens=torch.tensor(totals, dtype=torch.int32),
        page_table=table.flatten(),
        columns=torch.tensor([table.shape[1]], dtype=torch.int32),
        positions=torch.tensor(positions),
        reach=torch.tensor(reach),
        slots=torch.zeros(len(positions), dtype=torch.int64),
        page_tokens=page,
        window=window,
        longest_query=max(new for _, new, _ in shapes),
    )
    flat = [
        [pages[p].flatten(0, 1)[:total] for p, total in zip(numbers, totals, strict=True)]
        for pages in (key_pages, value_pages)
    ]
    q = torch.randn(len(positions), HEADS, DIM, generator=random)
    return q, key_pages, value_pages, batch, flat


shape = st.tuples(st.integers(0, 40), st.integers(1, 12)).flatmap(
    lambda bn: st.tuples(st.just(bn[0]), st.just(bn[1]), st.sampled_from([0, min(4, bn[1]), bn[1]]))
)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(shape, min_size=1, max_size=5), st.integers(1, 16), st.sampled_from([None, 1, 7, 16]), st.integers(0, 99)
)
def test_equals_attention_written_out(
    shapes: list[tuple[int, int, int]], page: int, window: int | None, seed: int
) -> None:
    """Prefill, decode and both at once, with window, images and grouped heads, over pages in any order."""
    q, key_pages, value_pages, batch, (keys, values) = random_batch(shapes, page=page, window=window, seed=seed)
    out = paged_attention(q, Pages(key_pages, value_pages), group_queries(batch), scale=0.3)
    torch.testing.assert_close(out, written_out(q, keys, values, batch, 0.3), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("window", [None, 5])
def test_what_others_hold_does_not_matter(window: int | None) -> None:
    """A sequence's rows are the same alone and in a batch."""
    shapes = [(9, 1, 0), (30, 1, 0), (0, 8, 4)]
    q, key_pages, value_pages, batch, _ = random_batch(shapes, page=4, window=window, seed=5)
    together = paged_attention(q, Pages(key_pages, value_pages), group_queries(batch), scale=0.3)
    row = 0
    for s, (_, new, _) in enumerate(shapes):
        alone = AttentionBatch(
            query_starts=torch.tensor([0, new], dtype=torch.int32),
            context_lens=batch.context_lens[s : s + 1],
            page_table=batch.page_table.view(len(shapes), -1)[s],
            columns=batch.columns,
            positions=batch.positions[row : row + new],
            reach=batch.reach[row : row + new],
            slots=batch.slots[row : row + new],
            page_tokens=4,
            window=window,
            longest_query=new,
        )
        out = paged_attention(q[row : row + new], Pages(key_pages, value_pages), group_queries(alone), scale=0.3)
        torch.testing.assert_close(out, together[row : row + new])
        row += new
