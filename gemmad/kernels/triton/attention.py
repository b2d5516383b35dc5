"""Ragged paged attention in Triton: which kernel computes a batch, and in which cut."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import ModuleType

import torch

from gemmad.kernels.batch import AttentionBatch
from gemmad.kernels.pages import Pages
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


def paged_attention(q: torch.Tensor, pages: Pages, launch: Launch, *, scale: float) -> torch.Tensor:
    """q [T, H, D] → [T, H, D]; equal to `reference.attention.paged_attention`.

    `scale` is above 0. A row that belongs to no sequence is left as it was taken from memory. In a step that does both,
    sequences with a single token are `decode`'s: a tile of many queries would compute as much for one.
    """
    batch = launch.batch
    assert scale > 0, "the largest score must stay the largest"
    if batch.longest_query == 1:
        sequences = batch.context_lens.shape[0]
        tile = launch.tile or attention_tiles.decode_tile(sequences, window=batch.window, coded=pages.coded)
        return decode(q, pages, batch, tile=_fit(tile, q, pages), scale=scale)
    out = _prefill(q, pages, launch, scale=scale)
    tile = attention_tiles.CODED_MANY if pages.coded else attention_tiles.MANY
    return decode(q, pages, batch, tile=_fit(tile, q, pages), scale=scale, out=out)


def _prefill(q: torch.Tensor, pages: Pages, launch: Launch, *, scale: float) -> torch.Tensor:
    """Rows of sequences with more than one token."""
    batch, tile = launch.batch, launch.tile
    heads, kv_heads = q.shape[1], pages.keys.shape[2]
    if tile is None:
        if hopper is not None and hopper_enabled and hopper.can_prefill(q, pages):
            rows = hopper.program_rows(q)
            first = launch.first_programs(rows * kv_heads // heads)
            mixed: torch.Tensor = hopper.prefill(q, pages, batch, scale=scale, rows=rows, first=first)
            return mixed
        tile = attention_tiles.prefill_tile(len(q), heads=heads, kv_heads=kv_heads)
    tile = _fit(tile, q, pages)
    first = launch.first_programs(tile.block_q)
    return prefill(q, pages, batch, tile=tile, scale=scale, first=first)


def _fit(tile: Tile, q: torch.Tensor, pages: Pages) -> Tile:
    room, coded = shared_memory_bytes(q.device), pages.coded
    return attention_tiles.fit(tile, head_dim=q.shape[2], itemsize=q.element_size(), coded=coded, room_bytes=room)
