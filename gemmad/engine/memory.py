"""How the KV cache's bytes are split into pages, planned before anything is taken.

A page of the full pool holds `page_tokens` tokens for every layer that sees the whole context; a page of the sliding
pool the same for every layer that sees a window. A long sequence therefore costs many full pages and few sliding ones.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from gemmad.engine.scheduler import Limits
from gemmad.errors import MemoryPlanError
from gemmad.models.config import TextShape
from gemmad.models.gemma3 import KVPools

NOMINAL_CONTEXT = 8192
"""Length of the sequence whose needs set the ratio of the two pools."""
CPU_KV_BYTES = 512 << 20
"""KV cache of a CPU worker when the settings are silent."""


@dataclass(frozen=True)
class PagePlan:
    """How many pages of each kind, and what they cost."""

    full_pages: int
    sliding_pages: int
    full_page_bytes: int
    sliding_page_bytes: int

    @property
    def nbytes(self) -> int:
        """Bytes of both pools."""
        return self.full_pages * self.full_page_bytes + self.sliding_pages * self.sliding_page_bytes


def plan_pages(
    shape: TextShape, limits: Limits, *, kv_bytes: int, max_context: int, longest_chunk: int, dtype: torch.dtype
) -> PagePlan:
    """Split `kv_bytes`. Raises MemoryPlanError when not even one sequence of `max_context` tokens fits."""
    token_bytes = 2 * shape.kv_heads * shape.head_dim * dtype.itemsize
    full_bytes = sum(shape.full_layers) * token_bytes * limits.page_tokens
    sliding_bytes = (len(shape.full_layers) - sum(shape.full_layers)) * token_bytes * limits.page_tokens
    least_full, least_sliding = _pages(limits, max_context, longest_chunk)
    least = least_full * full_bytes + least_sliding * sliding_bytes
    if least > kv_bytes:
        raise MemoryPlanError(
            f"one sequence of {max_context} tokens needs {least} bytes of KV cache and there are {kv_bytes}; "
            f"set memory.kv_bytes to {least} or more, or engine.max_context lower"
        )
    nominal_full, nominal_sliding = _pages(limits, min(max_context, NOMINAL_CONTEXT), longest_chunk)
    share = nominal_full * full_bytes + nominal_sliding * sliding_bytes
    # What is over after the one long sequence, in units of the nominal one; no more than there are sequences.
    units = min((kv_bytes - least) / share, limits.max_sequences) if share else 0
    return PagePlan(
        full_pages=least_full + int(units * nominal_full),
        sliding_pages=least_sliding + int(units * nominal_sliding),
        full_page_bytes=full_bytes,
        sliding_page_bytes=sliding_bytes,
    )


def allocate_pools(
    shape: TextShape, plan: PagePlan, *, page_tokens: int, device: torch.device, dtype: torch.dtype
) -> KVPools:
    """Take both pools, one tensor each, zeroed: attention may multiply what it masks, and 0 · NaN is NaN."""

    def pool(layers: int, pages: int) -> tuple[tuple[torch.Tensor, torch.Tensor], ...]:
        size = (layers, 2, pages, page_tokens, shape.kv_heads, shape.head_dim)
        whole = torch.zeros(size, device=device, dtype=dtype)
        return tuple((layer[0], layer[1]) for layer in whole)

    full_layers = sum(shape.full_layers)
    return KVPools(
        full=pool(full_layers, plan.full_pages),
        sliding=pool(len(shape.full_layers) - full_layers, plan.sliding_pages),
    )


def available_kv_bytes(device: torch.device, *, fraction: float, reserve_bytes: int) -> int:
    """What the worker's share of its device leaves for pages once the weights are in place."""
    if device.type != "cuda":
        return CPU_KV_BYTES
    _, total = torch.cuda.mem_get_info(device)
    left = int(total * fraction) - torch.cuda.memory_reserved(device) - reserve_bytes
    if left <= 0:
        raise MemoryPlanError(
            f"the weights take {torch.cuda.memory_reserved(device)} bytes, memory.reserve {reserve_bytes}; "
            f"{fraction:g} of the GPU's {total} bytes leave nothing for the KV cache"
        )
    return left


def _pages(limits: Limits, length: int, longest_chunk: int) -> tuple[int, int]:
    return limits.full_pages_for(length), limits.most_sliding_pages(length, longest_chunk)
