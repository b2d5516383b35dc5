"""Where a row's filters end, found without sorting it: for rows that a first draw did not settle.

What is kept ends at some token of the order "largest first, ties by id". With d the distance of a value to the row's
largest, bins are cut by d's float32 bits from 2⁻⁷ to 2⁹, so that their width is a share of d (1/128 with 2048 bins),
whether a row is flat or steep.

1. `_tally`: how many tokens, and how much mass, are in each bin. Masses are whole numbers, exp(-d) in units of 2⁻⁴⁴, so
   their sums do not depend on the order in which programs come to add.
2. `_gather`: tokens of bins before the end are kept, and draw; those of the few bins where it may lie go on a list.
3. `_settle`, a program for each row: finds the end among the listed, bit by bit, and draws. A list that overflowed
   (thousands of tokens that are all but equal) leaves the row to `walking`.

In each, what lies below `bottoms` is known to be cut off and is passed over.
"""
# mypy: disable-error-code="no-untyped-def,untyped-decorator"
# ruff: noqa: N803, PLR0913, PLR0917  (compile-time arguments are written in capitals; a kernel takes what it touches)

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import triton
import triton.language as tl

from gemmad.kernels.triton import launch
from gemmad.kernels.triton.cut import Cut
from gemmad.kernels.triton.launch import begin, wait_for_inputs
from gemmad.kernels.triton.noise import NOTHING, gumbel, key_id, key_value, order_key
from gemmad.kernels.triton.rows import best_key, chunk_maxima, limits, scaled, whole_mass
from gemmad.kernels.triton.walking import walk

UNIT = tl.constexpr(float(1 << 44))
"""Of masses: a vocabulary of 2¹⁸ and some tokens, each at most 1, stays below 2⁶³."""
ALL = tl.constexpr(1 << 62)
"""A mass that is never reached."""
_OCTAVES = 16
_FIRST_BITS = (127 - 7) << 23  # float32's bits of 2⁻⁷


@dataclass(frozen=True)
class Scratch:
    """What the kernels tell each other, for R rows. `undecided` to `masses` are set before they begin."""

    undecided: torch.Tensor
    """[R] int32: 1 where a row is to be narrowed down; nothing else is read of other rows."""
    bottoms: torch.Tensor
    """[R] int64: a key; this one and all below are cut off."""
    listed: torch.Tensor
    """[R] int32, zeros: tokens on the list."""
    counts: torch.Tensor
    """[R, bins] int32, zeros."""
    masses: torch.Tensor
    """[R, bins] int64, zeros."""
    keys: torch.Tensor
    """[R, listed] int64: the list."""
    drafts: torch.Tensor
    """[R, slices] int64: each slice's best draw among the tokens that are kept for sure."""


def scratch(rows: int, vocabulary: int, cut: Cut, *, device: torch.device) -> Scratch:
    """Memory for `rows`; nothing is set."""
    assert vocabulary < 1 << 19, "masses are counted in units that leave room for so many tokens"

    def empty(dtype: torch.dtype, *shape: int) -> torch.Tensor:
        return torch.empty(shape, dtype=dtype, device=device)

    return Scratch(
        undecided=empty(torch.int32, rows),
        bottoms=empty(torch.int64, rows),
        listed=empty(torch.int32, rows),
        counts=empty(torch.int32, rows, cut.bins),
        masses=empty(torch.int64, rows, cut.bins),
        keys=empty(torch.int64, rows, cut.listed),
        drafts=empty(torch.int64, rows, triton.cdiv(vocabulary, cut.slice)),
    )


def narrow(
    row_inputs: tuple[Any, ...],
    survey: tuple[torch.Tensor, torch.Tensor],
    rest: Scratch,
    cut: Cut,
    *,
    out: torch.Tensor,
    sizes: dict[str, int],
) -> None:
    """Draw for the undecided rows, into `out`; `survey` is each chunk's largest key and mass."""
    rows, slices = rest.drafts.shape
    device = out.device
    bins = {"BINS": cut.bins, "SHIFT": 23 + (_OCTAVES.bit_length() - 1) - (cut.bins.bit_length() - 1)}
    bins["FIRST"] = _FIRST_BITS >> bins["SHIFT"]
    tiles = {"SLICE": cut.slice, "TILE": cut.tile}
    _tally[(rows, slices)](
        *row_inputs, *survey, rest.undecided, rest.bottoms, rest.counts, rest.masses,
        **sizes, **bins, **tiles, **launch.options(device, warps=8),
    )  # fmt: skip
    _gather[(rows, slices)](
        *row_inputs, *survey, rest.undecided, rest.bottoms, rest.counts, rest.masses,
        rest.listed, rest.keys, rest.drafts,
        **sizes, **bins, **tiles, ROOM=cut.listed, **launch.options(device, warps=8),
    )  # fmt: skip
    _settle[(rows,)](
        *row_inputs, *survey, rest.undecided, rest.bottoms, rest.counts, rest.masses,
        rest.listed, rest.keys, rest.drafts, out,
        **sizes, **bins, SLICES=slices, SPAN=triton.next_power_of_2(slices), ROOM=cut.listed, STRIDE=cut.stride,
        **launch.options(device, warps=16),
    )  # fmt: skip


@triton.jit
def _tally(
    logits, stride, banned_ids, temperature, top_k, top_p, min_p, seed, position,
    tops, masses, undecided, bottoms, bin_counts, bin_masses,
    VOCABULARY: tl.constexpr, BANNED: tl.constexpr, MOST: tl.constexpr, CHUNKS: tl.constexpr, BLOCK: tl.constexpr,
    BINS: tl.constexpr, SHIFT: tl.constexpr, FIRST: tl.constexpr, SLICE: tl.constexpr, TILE: tl.constexpr,
    OVERLAP: tl.constexpr,
):  # fmt: skip
    begin(OVERLAP)
    wait_for_inputs(OVERLAP)
    row = tl.program_id(0).to(tl.int64)
    if tl.load(undecided + row) != 0:
        heat = tl.load(temperature + row)
        limited = limits(tl.load(top_k + row), VOCABULARY)
        weighed = tl.load(top_p + row) < 1.0
        bottom = tl.load(bottoms + row)
        peak = tl.max(chunk_maxima(tops + row * CHUNKS, CHUNKS, BLOCK), 0)
        for start in range(0, SLICE, TILE):
            ids = tl.program_id(1) * SLICE + start + tl.arange(0, TILE)
            values = scaled(logits + row * stride, banned_ids + row * BANNED, ids, heat, VOCABULARY, BANNED)
            inside = matters(values, ids, bottom)
            bins = row * BINS + bin_of(values, peak, BINS, SHIFT, FIRST)
            if limited:
                tl.atomic_add(bin_counts + bins, 1, mask=inside, sem="relaxed")
            if weighed:
                tl.atomic_add(bin_masses + bins, mass_of(values, peak, inside), mask=inside, sem="relaxed")


@triton.jit
def _gather(
    logits, stride, banned_ids, temperature, top_k, top_p, min_p, seed, position,
    tops, masses, undecided, bottoms, bin_counts, bin_masses, listed, keys, drafts,
    VOCABULARY: tl.constexpr, BANNED: tl.constexpr, MOST: tl.constexpr, CHUNKS: tl.constexpr, BLOCK: tl.constexpr,
    BINS: tl.constexpr, SHIFT: tl.constexpr, FIRST: tl.constexpr, SLICE: tl.constexpr, TILE: tl.constexpr,
    ROOM: tl.constexpr, OVERLAP: tl.constexpr,
):  # fmt: skip
    begin(OVERLAP)
    wait_for_inputs(OVERLAP)
    row = tl.program_id(0).to(tl.int64)
    if tl.load(undecided + row) != 0:
        heat = tl.load(temperature + row)
        least = tl.minimum(tl.load(min_p + row), 1.0)
        bottom = tl.load(bottoms + row)
        largest = chunk_maxima(tops + row * CHUNKS, CHUNKS, BLOCK)
        peak = tl.max(largest, 0)
        whole = to_units(whole_mass(masses + row * CHUNKS, largest, peak, CHUNKS, BLOCK))
        first, last, kth, _count, _above, _base = ends(
            bin_counts + row * BINS, bin_masses + row * BINS,
            tl.load(top_k + row), tl.load(top_p + row), whole, VOCABULARY, BINS,
        )  # fmt: skip
        best = tl.full((), NOTHING, tl.int64)
        for start in range(0, SLICE, TILE):
            ids = tl.program_id(1) * SLICE + start + tl.arange(0, TILE)
            values = scaled(logits + row * stride, banned_ids + row * BANNED, ids, heat, VOCABULARY, BANNED)
            inside = matters(values, ids, bottom)
            bins = bin_of(values, peak, BINS, SHIFT, FIRST)
            sure = inside & (bins < first) & (tl.exp(values - peak) >= least)
            if tl.sum(sure.to(tl.int32), 0) > 0:
                noise = gumbel(tl.load(seed + row), tl.load(position + row), ids)
                best = tl.maximum(best, tl.max(tl.where(sure, order_key(values + noise, ids), NOTHING), 0))
            open_ended = inside & (bins >= first) & ((bins <= last) | (bins == kth))
            ones = open_ended.to(tl.int32)
            here = tl.sum(ones, 0)
            if here > 0:
                slots = tl.atomic_add(listed + row, here) + tl.cumsum(ones, 0) - 1
                tl.store(keys + row * ROOM + slots, order_key(values, ids), mask=open_ended & (slots < ROOM))
        tl.store(drafts + row * tl.num_programs(1) + tl.program_id(1), best)


@triton.jit
def _settle(
    logits, stride, banned_ids, temperature, top_k, top_p, min_p, seed, position,
    tops, masses, undecided, bottoms, bin_counts, bin_masses, listed, keys, drafts, out,
    VOCABULARY: tl.constexpr, BANNED: tl.constexpr, MOST: tl.constexpr, CHUNKS: tl.constexpr, BLOCK: tl.constexpr,
    BINS: tl.constexpr, SHIFT: tl.constexpr, FIRST: tl.constexpr, SLICES: tl.constexpr, SPAN: tl.constexpr,
    ROOM: tl.constexpr, STRIDE: tl.constexpr, OVERLAP: tl.constexpr,
):  # fmt: skip
    begin(OVERLAP)
    wait_for_inputs(OVERLAP)
    row = tl.program_id(0).to(tl.int64)
    if tl.load(undecided + row) != 0:
        most = tl.load(top_k + row)
        share = tl.load(top_p + row)
        least = tl.load(min_p + row)
        seed_here = tl.load(seed + row)
        position_here = tl.load(position + row)
        token = tl.load(out + row)
        count = tl.load(listed + row)
        if count > ROOM:
            token = walk(
                logits + row * stride, banned_ids + row * BANNED, tl.load(temperature + row), most, share, least,
                seed_here, position_here, tops + row * CHUNKS, masses + row * CHUNKS, token,
                VOCABULARY, BANNED, MOST, CHUNKS, BLOCK, STRIDE,
            )  # fmt: skip
        else:
            largest = chunk_maxima(tops + row * CHUNKS, CHUNKS, BLOCK)
            peak = tl.max(largest, 0)
            whole = to_units(whole_mass(masses + row * CHUNKS, largest, peak, CHUNKS, BLOCK))
            first, _last, kth, before_kth, above_kth, base = ends(
                bin_counts + row * BINS, bin_masses + row * BINS, most, share, whole, VOCABULARY, BINS
            )  # fmt: skip
            places = tl.arange(0, ROOM)
            there = places < count
            listed_keys = tl.load(keys + row * ROOM + places, mask=there, other=NOTHING)
            values = key_value(listed_keys)
            ids = key_id(listed_keys).to(tl.int32)
            weights = mass_of(values, peak, there)
            bins = bin_of(values, peak, BINS, SHIFT, FIRST)
            at_kth = there & (bins == kth)
            kept = there & (bins <= kth)
            if limits(most, VOCABULARY):
                lowest = kth_key(listed_keys, at_kth, most - before_kth)
                kept = kept & ((bins < kth) | (listed_keys >= lowest))
                whole = above_kth + tl.sum(tl.where(at_kth & kept, weights, 0), 0)
            if share < 1.0:
                kept = kept & (listed_keys >= share_key(listed_keys, weights, base, part_of(share, whole)))
            kept = kept & (tl.exp(values - peak) >= tl.minimum(least, 1.0))
            # The first of all is kept whatever the filters say.
            kept = kept | (there & (first == 0) & (listed_keys == tl.max(listed_keys, 0)))
            scores = order_key(values + gumbel(seed_here, position_here, ids), ids)
            best = tl.max(tl.where(kept, scores, NOTHING), 0)
            best = tl.maximum(best, best_key(drafts + row * SLICES, SLICES, SPAN))
            # Where no value is a number there is nothing to draw; what was drawn before stands.
            token = tl.where(best > NOTHING, key_id(best), token)
        tl.store(out + row, token)


@triton.jit
def matters(values, ids, bottom):
    """Which tokens are not known to be cut off; what is no number, or forbidden, is never drawn."""
    return (order_key(values, ids) > bottom) & (values > float("-inf"))


@triton.jit
def bin_of(values, peak, BINS: tl.constexpr, SHIFT: tl.constexpr, FIRST: tl.constexpr):
    """Bins in the order of tokens: the first holds the largest values. Ends hold what lies beyond."""
    bits = (peak - values).to(tl.int32, bitcast=True)
    return tl.minimum(tl.maximum((bits >> SHIFT) - FIRST, 0), BINS - 1)


@triton.jit
def mass_of(values, peak, inside):
    """exp(value - peak) in units; nothing outside."""
    return to_units(tl.where(inside, tl.exp(values - peak), 0.0))


@triton.jit
def to_units(mass):
    """A mass as a whole number."""
    return (mass * UNIT).to(tl.int64)


@triton.jit
def part_of(share, whole):
    """What top_p admits: a token is kept if less lies before it. In float32, where 0.05 of twenty is one."""
    return tl.where(share < 1.0, (share * whole.to(tl.float32)).to(tl.int64), ALL)


@triton.jit
def ends(bin_counts, bin_masses, most, share, whole, VOCABULARY: tl.constexpr, BINS: tl.constexpr):
    """Between which bins the kept tokens end, and what lies before them.

    Bins before `first` are kept whole; after `last` nothing is kept. `kth` is the bin of the last token that top_k
    keeps, BINS if there is none: top_p takes its share of what lies up to there, which within that bin is not known
    yet. Returns (first, last, kth, tokens before kth, mass before kth, mass before first).
    """
    bins = tl.arange(0, BINS)
    counts = tl.load(bin_counts + bins)
    masses = tl.load(bin_masses + bins)
    counts_upto = tl.cumsum(counts, 0)
    masses_upto = tl.cumsum(masses, 0)
    limited = limits(most, VOCABULARY)
    kth = tl.min(tl.where(limited & (counts_upto >= most), bins, BINS), 0)
    before_kth = tl.sum(tl.where(bins < kth, counts, 0), 0)
    above_kth = tl.sum(tl.where(bins < kth, masses, 0), 0)
    within_kth = tl.sum(tl.where(bins == kth, masses, 0), 0)
    fewest = part_of(share, tl.where(limited, above_kth, whole))
    greatest = part_of(share, tl.where(limited, above_kth + within_kth, whole))
    first = tl.sum(((bins < kth) & (masses_upto < fewest)).to(tl.int32), 0)
    last = tl.max(tl.where((bins <= kth) & (masses_upto - masses < greatest), bins, 0), 0)
    return first, last, kth, before_kth, above_kth, tl.sum(tl.where(bins < first, masses, 0), 0)


@triton.jit
def kth_key(keys, chosen, most):
    """The largest number that `most` of the chosen keys reach."""
    reached = tl.where(tl.sum((chosen & (keys >= 0)).to(tl.int64), 0) >= most, tl.zeros((), tl.int64), NOTHING)
    bit = tl.full((), 1 << 62, tl.int64)
    while bit > 0:
        higher = reached + bit
        reached = tl.where(tl.sum((chosen & (keys >= higher)).to(tl.int64), 0) >= most, higher, reached)
        bit = bit >> 1
    return reached


@triton.jit
def share_key(keys, weights, base, part):
    """The smallest number with less than `part` above it, `base` included."""
    reached = tl.where(base + tl.sum(tl.where(keys >= 0, weights, 0), 0) >= part, tl.zeros((), tl.int64), NOTHING)
    bit = tl.full((), 1 << 62, tl.int64)
    while bit > 0:
        higher = reached + bit
        reached = tl.where(base + tl.sum(tl.where(keys >= higher, weights, 0), 0) >= part, higher, reached)
        bit = bit >> 1
    return reached
