"""The slowest way to draw a token, by one program that walks a whole row as often as it takes.

For rows that could not be narrowed down to a list: thousands of tokens whose values are all but equal.
"""
# mypy: disable-error-code="no-untyped-def,untyped-decorator"
# ruff: noqa: N803, PLR0913, PLR0917  (compile-time arguments are written in capitals; a kernel takes what it touches)

from __future__ import annotations

import triton
import triton.language as tl

from gemmad.kernels.triton.noise import NOTHING, gumbel, key_id, key_value, order_key
from gemmad.kernels.triton.rows import chunk_maxima, id_key, is_closed, limits, scaled, whole_mass


@triton.jit
def walk(
    source, banned, heat, most, share, least, seed, position, tops, masses, token,
    VOCABULARY: tl.constexpr, BANNED: tl.constexpr, MOST: tl.constexpr, CHUNKS: tl.constexpr, BLOCK: tl.constexpr,
    STRIDE: tl.constexpr,
):  # fmt: skip
    """A row's draw, where `token` was refused; of closed rows nothing was drawn yet.

    Draws among the tokens before the one that was refused last, until one is kept.
    """
    least = tl.minimum(least, 1.0)
    largest = chunk_maxima(tops, CHUNKS, BLOCK)
    peak = tl.max(largest, 0)
    pivot = id_key(source, banned, token, heat, VOCABULARY, BANNED)
    if is_closed(heat, most, VOCABULARY, MOST):
        pivot = tl.full((), NOTHING, tl.int64)  # every key is above nothing
    if limits(most, VOCABULARY):
        whole = top_mass(source, banned, heat, peak, most, VOCABULARY, BANNED, STRIDE)
    else:
        whole = whole_mass(masses, largest, peak, CHUNKS, BLOCK)
        most = tl.full((), VOCABULARY, tl.int64)
    searching = 1
    while searching == 1:
        # One walk tells what lies before the pivot, which decides about it, and draws from that the next pivot.
        mass = 0.0
        count = 0
        best = tl.full((), NOTHING, tl.int64)
        for start in range(0, VOCABULARY, STRIDE):
            ids = start + tl.arange(0, STRIDE)
            values = scaled(source, banned, ids, heat, VOCABULARY, BANNED)
            before = (order_key(values, ids) > pivot) & (ids < VOCABULARY)
            here = tl.sum(before.to(tl.int32), 0)
            if here > 0:
                count += here
                weights = tl.exp(values - peak)
                mass += tl.sum(tl.where(before, weights, 0.0), 0)
                scores = order_key(values + gumbel(seed, position, ids), ids)
                scores = tl.where(before & (weights >= least), scores, NOTHING)
                best = tl.maximum(best, tl.max(scores, 0))
        kept = (count < most) & ((share >= 1.0) | (mass < share * whole))
        kept = (count == 0) | (kept & (tl.exp(key_value(pivot) - peak) >= least))
        # Where no value is a number there is nothing to draw; whatever came last stands.
        if (kept & (pivot > NOTHING)) | (best == NOTHING):
            searching = 0
        else:
            token = key_id(best)
            pivot = id_key(source, banned, token, heat, VOCABULARY, BANNED)
    return token


@triton.jit
def top_mass(
    source, banned_ids, heat, peak, most, VOCABULARY: tl.constexpr, BANNED: tl.constexpr, STRIDE: tl.constexpr
):
    """Sum of exp(value - peak) over a row's `most` largest values.

    Finds the largest value that `most` tokens reach, bit by bit; of those that equal it only as many count as fit.
    """
    reached = tl.full((), 0, tl.int64)
    bit = tl.full((), 0x80000000, tl.int64)
    while bit > 0:
        counts = tl.zeros((STRIDE,), tl.int32)
        for start in range(0, VOCABULARY, STRIDE):
            ids = start + tl.arange(0, STRIDE)
            places = place(scaled(source, banned_ids, ids, heat, VOCABULARY, BANNED))
            counts += ((places >= (reached | bit)) & (ids < VOCABULARY)).to(tl.int32)
        if tl.sum(counts, 0) >= most:
            reached = reached | bit
        bit = bit >> 1
    mass = 0.0
    above = tl.full((), 0, tl.int64)
    for start in range(0, VOCABULARY, STRIDE):
        ids = start + tl.arange(0, STRIDE)
        values = scaled(source, banned_ids, ids, heat, VOCABULARY, BANNED)
        larger = place(values) > reached
        mass += tl.sum(tl.where(larger, tl.exp(values - peak), 0.0), 0)
        above += tl.sum(larger.to(tl.int64), 0)
    return mass + (most - above).to(tl.float32) * tl.exp(key_value((reached - 0x80000000) << 32) - peak)


@triton.jit
def place(values):
    """A value's place in the order of all float32 values: [0, 2³²) as int64."""
    return (order_key(values, tl.zeros_like(values).to(tl.int32)) >> 32) + 0x80000000
