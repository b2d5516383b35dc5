"""How a product with a coded weight is cut up: measured where it matters, by rule elsewhere.

The kernels are `words`, for so few tokens that instructions count, and `dot`, up to `MOST_TOKENS`. Above that the
weight is decoded, or multiplied as it is where the device can (see `coded`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from gemmad.kernels.matrices import BLOCK, CodedKind, codes_in_word

MOST_TOKENS = 128
"""A product with more is cuBLAS's, over decoded rows."""
STEPS = (1, 8, 16, 32, 64, 128)
"""Numbers of tokens that are measured; one in between is cut up as the next."""
WORDS_TOKENS = 8
"""Most tokens of the kernel `words`: one tile of the tensor cores."""


@dataclass(frozen=True)
class CodedTile:
    """How one product is cut up."""

    loop: Literal["words", "dot"]
    rows: int
    """Of a program; with a gate, half of them are the gate's."""
    warps: int
    depth: int
    """Blocks of columns on their way at once: in registers (`words`), through shared memory (`dot`)."""
    splits: int = 1
    """Programs that share the columns of the same rows; a gate then meets whole sums in a kernel of its own."""
    columns: int = BLOCK
    """Columns in one turn; more than a block only for codes without groups."""

    def shared_bytes(self, kind: CodedKind, tokens: int, *, gated: bool) -> int:
        """Shared memory that words and `tokens` inputs take on their way, at most."""
        if self.loop == "words":
            return 0
        width = max(8, 1 << (tokens - 1).bit_length())
        words = self.rows * (2 if gated and self.splits == 1 else 1) // codes_in_word(kind)
        return 2 * (words + width) * self.columns * self.depth


_INT4: dict[tuple[bool, int, int], dict[int, CodedTile]] = {
    # (gated, N, K): {tokens up to: tile}, the 12B network on an H200.
    (False, 8192, 3840): {
        1: CodedTile("dot", 64, 4, 3, 5),
        8: CodedTile("dot", 64, 4, 3, 5),
        16: CodedTile("dot", 64, 4, 3, 5),
        32: CodedTile("dot", 128, 4, 3, 5),
        64: CodedTile("dot", 128, 8, 3, 2),
    },
    (False, 3840, 4096): {
        1: CodedTile("dot", 64, 4, 4, 4),
        8: CodedTile("dot", 64, 4, 5, 4),
        16: CodedTile("dot", 128, 8, 3, 4),
        32: CodedTile("dot", 64, 4, 3, 4),
        64: CodedTile("dot", 64, 4, 3, 4),
    },
    (True, 15360, 3840): {
        1: CodedTile("words", 64, 2, 2, 3),
        8: CodedTile("dot", 128, 4, 3, 2),
        16: CodedTile("dot", 128, 4, 3, 2),
        32: CodedTile("dot", 64, 4, 4),
        64: CodedTile("dot", 128, 8, 3, 2),
    },
    (False, 3840, 15360): {
        1: CodedTile("words", 128, 4, 2, 12),
        8: CodedTile("words", 64, 2, 2, 12),
        16: CodedTile("dot", 64, 4, 3, 5),
        32: CodedTile("dot", 64, 4, 3, 5),
        64: CodedTile("dot", 64, 4, 3, 4),
    },
}
_INT8: dict[tuple[bool, int, int], dict[int, CodedTile]] = {
    (False, 8192, 3840): {
        1: CodedTile("dot", 64, 4, 5, 2),
        8: CodedTile("dot", 32, 2, 5, 1, 256),
        16: CodedTile("dot", 32, 2, 4, 1, 256),
        32: CodedTile("dot", 64, 4, 4, 2),
        64: CodedTile("dot", 64, 4, 4, 2),
        128: CodedTile("dot", 64, 4, 3, 2),
    },
    (False, 3840, 4096): {
        1: CodedTile("dot", 64, 4, 5, 4),
        8: CodedTile("dot", 32, 2, 4, 4),
        16: CodedTile("dot", 64, 4, 3, 4, 256),
        32: CodedTile("dot", 64, 4, 5, 4),
        64: CodedTile("dot", 64, 4, 4, 4),
        128: CodedTile("dot", 64, 4, 3, 4),
    },
    (True, 15360, 3840): {
        1: CodedTile("dot", 64, 4, 4),
        8: CodedTile("dot", 32, 2, 3, 1, 256),
        16: CodedTile("dot", 64, 4, 3, 1, 256),
        32: CodedTile("dot", 64, 4, 4),
        64: CodedTile("dot", 64, 4, 4),
        128: CodedTile("dot", 128, 8, 3),
    },
    (False, 3840, 15360): {
        1: CodedTile("dot", 64, 4, 5, 4),
        8: CodedTile("dot", 32, 2, 5, 2, 256),
        16: CodedTile("dot", 64, 4, 5, 4),
        32: CodedTile("dot", 64, 4, 5, 4),
        64: CodedTile("dot", 64, 4, 5, 4),
        128: CodedTile("dot", 64, 4, 3, 4),
    },
}
_TABLES: dict[CodedKind, dict[tuple[bool, int, int], dict[int, CodedTile]]] = {
    "int4": _INT4,
    "int8": _INT8,
    "fp8": _INT8,  # as fast, byte for byte: measured for 1 and 32 tokens
}
TUNED: dict[tuple[CodedKind, bool, int, int, int], CodedTile] = {
    (kind, *shape, tokens): tile
    for kind, table in _TABLES.items()
    for shape, tiles in table.items()
    for tokens, tile in tiles.items()
}
"""(kind, gated, N, K, tokens up to) → tile."""


def tile_for(
    kind: CodedKind, n: int, k: int, tokens: int, *, gated: bool, words: bool, shared_bytes: int = 227 << 10
) -> CodedTile | None:
    """The measured tile of a shape, else one by rule; None where the weight is to be decoded first.

    `words`: whether that kernel can be had. A device with less shared memory gets fewer turns on their way.
    """
    step = next((step for step in STEPS if 0 < tokens <= step), None)
    if step is None:
        return None
    tile = TUNED.get((kind, gated, n, k, step))
    if tile is None or (tile.loop == "words" and not words):
        tile = _ruled(kind, n, k, step, gated=gated, words=words)
    while tile.shared_bytes(kind, tokens, gated=gated) > shared_bytes:
        if tile.depth == 1:
            return None
        tile = replace(tile, depth=tile.depth - 1)
    return tile


def _ruled(kind: CodedKind, n: int, k: int, step: int, *, gated: bool, words: bool) -> CodedTile:
    """Programs for two waves of a large device, as far as there are columns to share out."""
    blocks = k // BLOCK
    if kind == "int4" and words and step <= WORDS_TOKENS:
        splits = _divisor(blocks, 2048 * 16 // n)
        rows = 32 if gated and splits == 1 else 16
        return CodedTile("words", rows, rows // 16, _divisor(blocks // splits, 5), splits)
    rows = 128 if step >= 64 and gated else 64
    splits = 1 if gated else _divisor(blocks, 256 * rows // n)
    return CodedTile("dot", rows, 8 if rows == 128 else 4, 3 if step >= 64 else 4, splits)


def _divisor(number: int, most: int) -> int:
    """The largest divisor that is not above `most`, 1 at least."""
    return next(each for each in range(max(1, min(number, most)), 0, -1) if number % each == 0)
