"""How a product is cut up, and which cut a shape gets: measured where it matters, by rule elsewhere."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Tile:
    """How one product is cut up."""

    loop: Literal["multiply", "direct", "dot"]
    rows: int
    columns: int
    warps: int
    stages: int = 1
    """Tiles on their way at once; above 1 they travel through shared memory."""
    splits: int = 1
    """`dot` alone: programs that share the columns of the same rows, where rows are too few for all of the device."""
    ahead_bytes: int = 0
    """Of each program's weights, how much is called into L2 while its inputs are still being made (see launch.py)."""

    def shared_bytes(self, tokens: int, *, gated: bool, weight_bytes: int) -> int:
        """Shared memory that tiles of the weight and of `tokens` inputs take on their way, at most."""
        if self.stages == 1:
            return 0
        width = max(8, 1 << (tokens - 1).bit_length())
        return (self.rows * (2 if gated else 1) + width) * self.columns * weight_bytes * self.stages


STEPS = (1, 2, 4, 8, 16, 32, 48, 64, 96, 128)
"""Numbers of tokens that are measured; one in between is cut up as the next."""

RULED_TOKENS = 16
"""A shape that nobody measured is cuBLAS's above this many tokens."""


def _up_to_16(tile: Tile) -> dict[int, Tile | None]:
    return dict.fromkeys((2, 4, 8, 16), tile)


_TILES: dict[tuple[bool, int, int], dict[int, Tile | None]] = {
    # (gated, N, K): {tokens up to: tile}, the 12B network on an H200, bf16. None is cuBLAS.
    (False, 8192, 3840): {1: Tile("direct", 1, 2048, 4)}
    | _up_to_16(Tile("dot", 32, 256, 2, 3))
    | {32: None, 48: None, 64: None, 96: None, 128: None},
    (False, 3840, 4096): {1: Tile("direct", 2, 2048, 4)}
    | _up_to_16(Tile("dot", 16, 256, 2, 4))
    | {16: Tile("dot", 64, 128, 4, 8, 2), 32: Tile("dot", 64, 64, 4, 8, 2), 48: None, 64: None, 96: None, 128: None},
    (True, 15360, 3840): {1: Tile("direct", 1, 2048, 4)}
    | _up_to_16(Tile("dot", 64, 128, 4, 4))
    | {32: Tile("dot", 128, 128, 4, 3), 48: Tile("dot", 64, 128, 4, 4), 64: Tile("dot", 64, 64, 4, 4), 96: None}
    | {128: Tile("dot", 128, 64, 8, 4)},
    (False, 3840, 15360): {1: Tile("direct", 1, 2048, 4)}
    | _up_to_16(Tile("dot", 16, 512, 2, 3))
    | {32: Tile("dot", 64, 256, 4, 4, 2), 48: None, 64: Tile("dot", 64, 128, 4, 7, 2), 96: None}
    | {128: Tile("dot", 64, 64, 4, 8, 2)},
    (False, 262208, 3840): dict.fromkeys(STEPS),
}
TUNED: dict[tuple[bool, int, int, int], Tile | None] = {
    (*shape, tokens): tile for shape, tiles in _TILES.items() for tokens, tile in tiles.items()
}
"""(gated, N, K, tokens up to) → tile."""


def tile_for(
    n: int, k: int, tokens: int, *, gated: bool, weight_bytes: int = 2, shared_bytes: int = 227 << 10
) -> Tile | None:
    """The measured tile of a shape, or for one that nobody measured a rule of the same kind; None is cuBLAS.

    A device with less shared memory, or weights of more bytes, get what fits of these.
    """
    step = next((step for step in STEPS if 0 < tokens <= step), None)
    if step is None:
        return None

    def fits(tile: Tile) -> bool:
        return tile.shared_bytes(tokens, gated=gated, weight_bytes=weight_bytes) <= shared_bytes

    if (gated, n, k, step) in TUNED:
        tile = TUNED[gated, n, k, step]
        if tile is None or fits(tile):
            return tile
    tile = _ruled(n, k, step, gated=gated)
    return tile if tile is not None and fits(tile) else None


def _ruled(n: int, k: int, step: int, *, gated: bool) -> Tile | None:
    if step > RULED_TOKENS:
        return None
    if step > 1:
        return Tile("dot", 16, 256, 2, 4)
    rows = 2 if n <= 4096 or gated else 4
    return Tile("multiply", rows, 2048 // rows if k >= 2048 // rows else 256, 2)
