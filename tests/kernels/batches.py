"""Random ragged batches over pages, in the shapes that kernels for tensor cores take."""

from __future__ import annotations

import math
from typing import Any

import torch

from gemmad.kernels.batch import AttentionBatch

HEADS, KV_HEADS, DIM = 4, 2, 64


def paged(
    shapes: list[tuple[int, int, int]],
    *,
    page: int,
    window: int | None,
    seed: int,
    dtype: torch.dtype = torch.bfloat16,
    ring: bool = False,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, AttentionBatch]:
    """Queries, key and value pages, and the batch, of sequences of (computed before, new tokens, image length at the
    chunk's start; 0 is none) on shuffled pages. `ring`: only pages within the window's reach are held."""
    chance = torch.Generator().manual_seed(seed)
    totals = [before + new for before, new, _ in shapes]
    firsts = [max(0, before - window + 1) // page if ring and window else 0 for before, _, _ in shapes]
    counts = [math.ceil(total / page) - first for total, first in zip(totals, firsts, strict=True)]
    width = max(counts)
    numbers = iter(torch.randperm(sum(counts) + 3, generator=chance).tolist())
    table = torch.zeros(len(shapes), width, dtype=torch.int32)
    positions: list[int] = []
    reach: list[int] = []
    starts = [0]
    for row, (before, new, image) in enumerate(shapes):
        for index in range(firsts[row], firsts[row] + counts[row]):
            table[row, index % width] = next(numbers)
        positions += range(before, before + new)
        reach += [before + image - 1 if i < image else before + i for i in range(new)]
        starts.append(starts[-1] + new)
    batch = AttentionBatch(
        query_starts=torch.tensor(starts, dtype=torch.int32),
        context_lens=torch.tensor(totals, dtype=torch.int32),
        page_table=table.flatten(),
        columns=torch.tensor([width], dtype=torch.int32),
        positions=torch.tensor(positions),
        reach=torch.tensor(reach),
        slots=torch.zeros(len(positions), dtype=torch.int64),
        page_tokens=page,
        window=window,
        longest_query=max(new for _, new, _ in shapes),
    )
    size = (sum(counts) + 3, page, KV_HEADS, DIM)
    keys, values = (torch.randn(size, generator=chance).to(dtype) for _ in range(2))
    return torch.randn(len(positions), HEADS, DIM, generator=chance).to(dtype), keys, values, batch


def moved(
    device: torch.device, q: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, batch: AttentionBatch
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, AttentionBatch]:
    """The same on a device."""
    fields: dict[str, Any] = {
        name: value.to(device) if isinstance(value, torch.Tensor) else value for name, value in vars(batch).items()
    }
    return q.to(device), keys.to(device), values.to(device), AttentionBatch(**fields)
