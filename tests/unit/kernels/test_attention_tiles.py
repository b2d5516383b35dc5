"""How attention is cut up."""

from __future__ import annotations

import itertools

import pytest
import torch

from gemmad.kernels.triton import attention_tiles as tiles
from gemmad.kernels.triton.attention_tiles import Tile
from gemmad.kernels.triton.device import shared_memory_bytes

CPU = torch.device("cpu")


def test_split_sums_are_bounded() -> None:
    """However many sequences decode, the programs that leave sums stay within what is counted for them."""
    for sequences, coded in itertools.product(range(1, 300), (False, True)):
        tile = tiles.decode_tile(sequences, coded=coded)
        assert tile.splits == 1 or tile.splits * sequences <= tiles.MOST_SPLIT_PROGRAMS


@pytest.mark.parametrize("coded", [False, True])
def test_more_sequences_are_split_less(coded: bool) -> None:
    """Splits fall with the number of sequences, to none."""
    splits = [tiles.decode_tile(count, coded=coded).splits for count in range(1, 100)]
    assert splits == sorted(splits, reverse=True)
    assert splits[-1] == 1


@pytest.mark.parametrize(("heads", "kv_heads"), [(16, 8), (8, 4), (4, 1), (32, 16), (8, 8), (6, 2)])
@pytest.mark.parametrize("tokens", [16, 512, 4096])
def test_a_tile_s_rows_are_the_same_for_any_group(heads: int, kv_heads: int, tokens: int) -> None:
    """Queries times heads of a group fill a tile of 64 or 128 rows."""
    rows = tiles.prefill_tile(tokens, heads=heads, kv_heads=kv_heads).block_q * (heads // kv_heads)
    assert 3 * 64 // 4 < rows <= 128


def test_short_batches_get_small_tiles() -> None:
    """A batch of few queries is cut finer, so that more multiprocessors work."""
    assert (
        tiles.prefill_tile(256, heads=16, kv_heads=8).block_q < tiles.prefill_tile(4096, heads=16, kv_heads=8).block_q
    )


@pytest.mark.parametrize("room", [99 << 10, 163 << 10, 227 << 10])
@pytest.mark.parametrize("tile", [tiles.PREFILL, tiles.SHORT_PREFILL, tiles.MANY, *(tile for _, tile in tiles.DECODE)])
@pytest.mark.parametrize("itemsize", [2, 4])
def test_every_tile_fits(room: int, tile: Tile, itemsize: int) -> None:
    """On a small GPU too, two blocks of keys and values at least fit beside the queries' tile."""
    fitting = tiles.fit(tile, head_dim=256, itemsize=itemsize, room_bytes=room)
    blocks = 1 if fitting.stages == 1 else 2
    assert 2 * blocks * fitting.block_n * 256 * itemsize <= room
    assert fitting.block_n >= 16
    assert (fitting.block_q == 1) == (tile.block_q == 1)


@pytest.mark.parametrize("tile", [tiles.CODED_ALONE, tiles.CODED_MANY, *(tile for _, tile in tiles.CODED_DECODE)])
def test_codes_take_half_the_room(tile: Tile) -> None:
    """A block that would not fit in bfloat16 fits in codes."""
    room = 2 * tile.stages * tile.block_n * 256
    assert tiles.fit(tile, head_dim=256, itemsize=2, room_bytes=room, coded=True) == tile
    assert tiles.fit(tile, head_dim=256, itemsize=2, room_bytes=room).block_n < tile.block_n


def test_a_cpu_plays_a_hopper() -> None:
    """Where an interpreter stands in, tiles are those of the GPU that was measured."""
    assert tiles.fit(tiles.PREFILL, head_dim=256, itemsize=2, room_bytes=shared_memory_bytes(CPU)) == tiles.PREFILL
