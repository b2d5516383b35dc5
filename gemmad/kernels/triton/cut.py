"""How sampling is cut up."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Cut:
    """Sizes, all powers of two. Tests make them small; results do not depend on them."""

    chunk: int = 1024
    """Tokens of the vocabulary for one program."""
    most: int = 128
    """Largest top_k of a closed row."""
    likely: int = 256
    """Candidates that a closed row usually has at most."""
    room: int = 2048
    """Candidates that a closed row can have."""
    finish_warps: int = 4
    bins: int = 2048
    """Of a histogram over a row, at least 32 (see narrowing.py)."""
    slice: int = 8192
    """Tokens of the vocabulary for one program that narrows a row down."""
    tile: int = 2048
    """Of those, how many at a time."""
    listed: int = 4096
    """Tokens that can be left when a row is narrowed down."""
    stride: int = 4096
    """Tokens at a time where one program walks the whole vocabulary."""
