"""Ragged paged attention in plain torch: gathers each sequence's keys, then torch's own attention.

Sequences with one query (decode) are computed together, padded to the longest; a longer chunk is computed by itself.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.nn import functional as F

from gemmad.kernels.batch import AttentionBatch
from gemmad.kernels.pages import Pages, decode_rows


@dataclass(frozen=True)
class Group:
    """Some sequences whose queries are equally many."""

    rows: torch.Tensor
    """[G · n] int64: their rows in the flat batch, n after n."""
    slots: torch.Tensor
    """[G, L] int64: their keys, `page * page_tokens + offset`; padding repeats a real slot."""
    mask: torch.Tensor
    """[G, 1, n, L] bool."""


def group_queries(batch: AttentionBatch) -> list[Group]:
    """What is the same for all layers of one kind: which keys are gathered for which rows, and who sees whom."""
    starts = batch.query_starts.tolist()
    decodes = [s for s in range(len(starts) - 1) if starts[s + 1] - starts[s] == 1]
    groups = [_group(batch, decodes, starts)] if decodes else []
    groups += [_group(batch, [s], starts) for s in range(len(starts) - 1) if starts[s + 1] - starts[s] > 1]
    return groups


def paged_attention(q: torch.Tensor, pages: Pages, groups: list[Group], *, scale: float) -> torch.Tensor:
    """Softmax attention with grouped queries over pages of K heads: q [T, H, D] → [T, H, D]."""
    heads, head_dim = q.shape[1:]
    out = torch.empty_like(q)
    for group in groups:
        count = group.slots.shape[0]
        queries = q[group.rows].view(count, -1, heads, head_dim).transpose(1, 2)
        mixed = F.scaled_dot_product_attention(
            queries,
            _gather(pages.keys, pages.key_scales, group.slots).transpose(1, 2).to(q.dtype),
            _gather(pages.values, pages.value_scales, group.slots).transpose(1, 2).to(q.dtype),
            attn_mask=group.mask,
            scale=scale,
            enable_gqa=True,
        )
        out[group.rows] = mixed.transpose(1, 2).reshape(-1, heads, head_dim)
    return out


def _gather(source: torch.Tensor, scales: torch.Tensor | None, slots: torch.Tensor) -> torch.Tensor:
    """Rows of pages [pages, page_tokens, K, D] at `slots` [G, L] → [G, L, K, D]."""
    places = slots // source.shape[1], slots % source.shape[1]
    if scales is None:
        return source[places]
    return decode_rows(source.view(torch.int8)[places].view(source.dtype), scales[places])


def _group(batch: AttentionBatch, members: list[int], starts: list[int]) -> Group:
    device = batch.positions.device
    queries = starts[members[0] + 1] - starts[members[0]]
    rows = torch.tensor([starts[s] + i for s in members for i in range(queries)], device=device)
    chosen = torch.tensor(members, device=device)
    contexts = batch.context_lens[chosen].long()
    positions = batch.positions[rows].view(len(members), queries)
    reach = batch.reach[rows].view(len(members), queries)
    lowest = torch.zeros_like(contexts)
    if batch.window is not None:
        lowest = (positions[:, 0] - batch.window + 1).clamp_min(0)
    span = int((contexts - lowest).max())
    keys = lowest[:, None] + torch.arange(span, device=device)  # [G, L] positions
    inside = keys < contexts[:, None]
    keys = torch.where(inside, keys, lowest[:, None])
    width = int(batch.columns)
    table = batch.page_table[: len(starts[1:]) * width].view(-1, width)
    pages = table[chosen].long().gather(1, (keys // batch.page_tokens) % width)
    seen = inside[:, None] & (keys[:, None] <= reach[:, :, None])
    if batch.window is not None:
        seen &= keys[:, None] > positions[:, :, None] - batch.window
    return Group(rows, pages * batch.page_tokens + keys % batch.page_tokens, seen[:, None])
