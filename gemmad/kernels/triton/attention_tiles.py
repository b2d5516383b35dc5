"""How a batch is cut into attention programs, and which cut a batch gets: measured where it matters, by rule elsewhere.

The kernels are `decode`, `prefill`, and `hopper`, which is `prefill` in instructions that only Hopper has.
"""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Tile:
    """How a batch is cut into programs."""

    block_q: int
    """Queries of a program; 1 is a tile for decoding."""
    block_n: int
    """Keys in one turn of its loop."""
    warps: int
    stages: int
    """Turns whose keys are on their way or in use at once."""
    splits: int = 1
    """Programs that share the keys of one sequence; only where one decodes."""


DECODE: tuple[tuple[int, Tile], ...] = (
    # (sequences up to, tile): 16 heads over 8 of keys, head size 256, bf16, on an H200.
    (1, Tile(1, 16, 2, 2, splits=32)),
    (2, Tile(1, 32, 4, 2, splits=16)),
    (4, Tile(1, 32, 4, 2, splits=8)),
    (8, Tile(1, 32, 2, 2, splits=8)),
    (16, Tile(1, 32, 2, 2, splits=4)),
    (32, Tile(1, 64, 4, 3)),
)
ALONE = Tile(1, 64, 4, 3, splits=32)
"""For one sequence where nothing bounds what it sees: 72 µs at 32k, where the first of `DECODE` takes over 80."""
MANY = Tile(1, 32, 2, 3)
"""Decoding with more sequences than that."""
CODED_DECODE: tuple[tuple[int, Tile], ...] = (
    # The same for codes of 8 bits; 32 and more sequences are measured, with 4096 tokens each.
    (1, Tile(1, 32, 2, 2, splits=32)),
    (2, Tile(1, 32, 2, 2, splits=16)),
    (4, Tile(1, 32, 2, 2, splits=8)),
    (8, Tile(1, 32, 2, 3, splits=8)),
    (16, Tile(1, 32, 2, 3, splits=4)),
    (32, Tile(1, 32, 2, 5, splits=2)),
)
CODED_ALONE = Tile(1, 64, 4, 3, splits=32)
CODED_MANY = Tile(1, 32, 2, 5)

MOST_SPLIT_PROGRAMS = 64
"""Programs for each head of keys, at most, in a step whose sequences are split; bounds what their sums take."""

PREFILL = Tile(64, 64, 8, 3)
"""For two query heads to a head of keys; others get as many rows of a tile."""
SHORT_PREFILL = Tile(32, 64, 4, 3)
"""For batches so short that larger tiles would leave multiprocessors without work."""
_SHORT_PROGRAMS = 66
"""Programs of a large tile below which that is so: half an H200's multiprocessors."""

_HOPPER_SHARED_BYTES = 200 << 10
_AMPERE_SHARED_BYTES = 140 << 10


def decode_tile(sequences: int, *, window: int | None = None, coded: bool = False) -> Tile:
    """The measured tile for so many sequences with one token each, who see `window` keys or all; `coded`: in codes of 8
    bits."""
    if sequences == 1 and window is None:
        return CODED_ALONE if coded else ALONE
    table, many = (CODED_DECODE, CODED_MANY) if coded else (DECODE, MANY)
    return next((tile for most, tile in table if sequences <= most), many)


def prefill_tile(tokens: int, *, heads: int, kv_heads: int) -> Tile:
    """The tile for a batch of so many tokens, its queries scaled so that the rows of a program stay the same."""
    group = heads // kv_heads
    queries = max(1, 2 * PREFILL.block_q // group)
    chosen = SHORT_PREFILL if tokens // queries * kv_heads < _SHORT_PROGRAMS else PREFILL
    return replace(chosen, block_q=max(2, 2 * chosen.block_q // group))


def fit(tile: Tile, *, head_dim: int, itemsize: int, room_bytes: int, coded: bool = False) -> Tile:
    """The tile, or a smaller one where `room_bytes` of shared memory would not hold it."""
    row_bytes = head_dim * itemsize
    if tile.block_q == 1:
        key_bytes = head_dim if coded else row_bytes
        while tile.block_n > 16 and 2 * tile.stages * tile.block_n * key_bytes > room_bytes:
            tile = replace(tile, block_n=tile.block_n // 2)
        return tile
    if itemsize > 2:  # no tensor cores; registers hold half as many
        return replace(tile, block_q=min(tile.block_q, 16), block_n=min(tile.block_n, 16), stages=1)
    if row_bytes <= 256 or room_bytes >= _HOPPER_SHARED_BYTES:
        return tile
    if room_bytes >= _AMPERE_SHARED_BYTES:
        return replace(tile, stages=2)
    return replace(tile, block_q=max(2, tile.block_q // 2), block_n=32, warps=4, stages=2)
