"""Ragged paged attention in Triton: which kernel computes a batch, and in which cut."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import ModuleType

import torch

from gemmad.kernels.batch import AttentionBatch
from gemmad.kernels.triton import attention_tiles
from gemmad.kernels.triton.attention_tiles import Tile
from gemmad.kernels.triton.decode import decode
from gemmad.kernels.triton.device import shared_memory_bytes
from gemmad.kernels.triton.prefill import prefill
from gemmad.kernels.triton.programs import first_programs

hopper: ModuleType | None
try:
    from gemmad.kernels.triton import hopper
except (ImportError, AttributeError):  # Gluon is young: where its names have changed, the portable kernel does the work
    hopper = None

hopper_enabled = True
"""Use Hopper's own kernel where it serves. A measurement may switch it; an engine never does once it has recorded."""


@dataclass(frozen=True)
class Launch:
    """A batch and its cut; the same for all layers over one pool."""

    batch: AttentionBatch
    tile: Tile | None = None
    """None: what was measured to be fastest. A measurement sets others."""
    _first: dict[int, torch.Tensor] = field(default_factory=dict)

    def first_programs(self, block_q: int) -> torch.Tensor:
        """Those for sequences with more than one token; the first layer that asks computes them for all."""
        if block_q not in self._first:
            self._first[block_q] = first_programs(self.batch, block_q, least=2)
        return self._first[block_q]


def plan_launch(batch: AttentionBatch) -> Launch:
    """What all layers share."""
    return Launch(batch)


def paged_attention(
    q: torch.Tensor, key_pages: torch.Tensor, value_pages: torch.Tensor, launch: Launch, *, scale: float
) -> torch.Tensor:
    """q [T, H, D], pages [pages, page_tokens, K, D] → [T, H, D]; equal to `reference.attention.paged_attention`.

    `scale` is above 0. A row that belongs to no sequence is left as it was taken from memory. In a step that does both,
    sequences with a single token are `decode`'s: a tile of many queries would compute as much for one.
    """
    batch = launch.batch
    assert scale > 0, "the largest score must stay the largest"
    if batch.longest_query == 1:
        tile = launch.tile or attention_tiles.decode_tile(batch.context_lens.shape[0], window=batch.window)
        return decode(q, key_pages, value_pages, batch, tile=_fit(tile, q), scale=scale)
    out = _prefill(q, key_pages, value_pages, launch, scale=scale)
    return decode(q, key_pages, value_pages, batch, tile=_fit(attention_tiles.MANY, q), scale=scale, out=out)


def _prefill(
    q: torch.Tensor, key_pages: torch.Tensor, value_pages: torch.Tensor, launch: Launch, *, scale: float
) -> torch.Tensor:
    """Rows of sequences with more than one token."""
    batch, tile = launch.batch, launch.tile
    if tile is None:
        if hopper is not None and hopper_enabled and hopper.can_prefill(q, key_pages):
            rows = hopper.program_rows(q)
            first = launch.first_programs(rows * key_pages.shape[2] // q.shape[1])
            mixed: torch.Tensor = hopper.prefill(q, key_pages, value_pages, batch, scale=scale, rows=rows, first=first)
            return mixed
        tile = attention_tiles.prefill_tile(len(q), heads=q.shape[1], kv_heads=key_pages.shape[2])
    tile = _fit(tile, q)
    first = launch.first_programs(tile.block_q)
    return prefill(q, key_pages, value_pages, batch, tile=tile, scale=scale, first=first)


def _fit(tile: Tile, q: torch.Tensor) -> Tile:
    room = shared_memory_bytes(q.device)
    return attention_tiles.fit(tile, head_dim=q.shape[2], itemsize=q.element_size(), room_bytes=room)
