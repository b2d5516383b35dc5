"""Drawing tokens from a large vocabulary without sorting it; equal to `reference.sampling.sample`.

Every filter keeps a *prefix* of the order "largest first, ties by id". That carries the design: whether a token is kept
follows from what lies before it (how many tokens, how much mass), and if one is not kept, nothing after it is.

1. `survey`, a program for each chunk of a row: its largest key, its mass, and for open rows its draw, the token with
   the largest value plus Gumbel noise. Greedy rows and rows without filters are then settled but for a maximum.
2. `collect`, again for each chunk. *Closed* rows (top_k up to MOST): the k-th largest of the chunks' maxima is not
   above the k-th largest value of the row, so all of the k are at or above it; those few go on a list. *Open* rows with
   min_p alone: now that the largest value is known, the draw among what is kept. Other open rows with filters: how many
   tokens and how much mass lie before the draw.
3. `_finish`, a program for each row. Closed rows: sort the list, cut it by top_k, top_p and min_p, draw. Open rows:
   take the draw if it is kept; being the best of all tokens it is the best of the kept ones, which is the definition.
4. `narrowing`, for what is left: an open row whose draw was cut off, which is as likely as the tail that the filter
   cuts; top_k above MOST together with top_p; a list that overflowed. Programs of all other rows leave at once.

Nothing depends on the host, so one captured graph serves every mixture of rows. Sums are taken in a fixed order, or of
integers, so equal inputs give equal tokens.
"""
# mypy: disable-error-code="no-untyped-def,untyped-decorator"
# ruff: noqa: N803, PLR0913, PLR0917  (compile-time arguments are written in capitals; a kernel takes what it touches)

from __future__ import annotations

import torch
import triton
import triton.language as tl

from gemmad.kernels.batch import SamplingBatch
from gemmad.kernels.triton import launch, narrowing
from gemmad.kernels.triton.cut import Cut
from gemmad.kernels.triton.launch import begin, wait_for_inputs
from gemmad.kernels.triton.noise import NOTHING, gumbel, key_id, key_value, order_key
from gemmad.kernels.triton.rows import (
    below_kth,
    best_candidates,
    best_id,
    best_key,
    chunk_maxima,
    draw_sorted,
    id_key,
    is_closed,
    is_filtered,
    is_open,
    limits,
    min_p_alone,
    scaled,
    whole_mass,
)


def sample(logits: torch.Tensor, batch: SamplingBatch, *, cut: Cut | None = None) -> torch.Tensor:
    """One token for each row: logits [R, vocab] of any float type → [R] int64. `batch.greedy` is not needed."""
    cut = cut or Cut()
    rows, vocabulary = logits.shape
    chunks: int = triton.cdiv(vocabulary, cut.chunk)
    assert logits.stride(1) == 1, "a row of logits lies in one piece"

    def empty(dtype: torch.dtype, *shape: int) -> torch.Tensor:
        return torch.empty(shape, dtype=dtype, device=logits.device)

    out, found = empty(torch.int64, rows), empty(torch.int32, rows)
    tops, draws = empty(torch.int64, rows, chunks), empty(torch.int64, rows, chunks)
    masses, masses_before = empty(torch.float32, rows, chunks), empty(torch.float32, rows, chunks)
    counts_before = empty(torch.int32, rows, chunks)
    candidates = empty(torch.int64, rows, cut.room)
    rest = narrowing.scratch(rows, vocabulary, cut, device=logits.device)

    row_inputs = (
        logits, logits.stride(0), batch.banned_ids,
        batch.temperature, batch.top_k, batch.top_p, batch.min_p, batch.seed, batch.position,
    )  # fmt: skip
    sizes = {"VOCABULARY": vocabulary, "BANNED": batch.banned_ids.shape[1], "MOST": cut.most}
    over_chunks = {"CHUNKS": chunks, "BLOCK": triton.next_power_of_2(chunks)}
    narrow = launch.options(logits.device, warps=4)
    survey[(rows, chunks)](
        *row_inputs, tops, masses, draws, found, **sizes, CHUNK=cut.chunk, **narrow
    )  # fmt: skip
    collect[(rows, chunks)](
        *row_inputs, tops, draws, candidates, found, masses_before, counts_before,
        **sizes, **over_chunks, CHUNK=cut.chunk, ROOM=cut.room, **narrow,
    )  # fmt: skip
    _finish[(rows,)](
        *row_inputs, tops, masses, draws, candidates, found, masses_before, counts_before, out,
        rest.undecided, rest.bottoms, rest.listed, rest.counts, rest.masses,
        **sizes, **over_chunks, LIKELY=cut.likely, ROOM=cut.room, BINS=cut.bins,
        **launch.options(logits.device, warps=cut.finish_warps),
    )  # fmt: skip
    narrowing.narrow(row_inputs, (tops, masses), rest, cut, out=out, sizes=sizes | over_chunks)
    return out


@triton.jit
def survey(
    logits, stride, banned_ids, temperature, top_k, top_p, min_p, seed, position,
    tops, masses, draws, found,
    VOCABULARY: tl.constexpr, BANNED: tl.constexpr, MOST: tl.constexpr, CHUNK: tl.constexpr, OVERLAP: tl.constexpr,
):  # fmt: skip
    begin(OVERLAP)
    wait_for_inputs(OVERLAP)
    row = tl.program_id(0).to(tl.int64)
    chunk = tl.program_id(1)
    place = row * tl.num_programs(1) + chunk
    ids = chunk * CHUNK + tl.arange(0, CHUNK)
    heat = tl.load(temperature + row)
    values = scaled(logits + row * stride, banned_ids + row * BANNED, ids, heat, VOCABULARY, BANNED)
    top = tl.max(order_key(values, ids), 0)
    weights = tl.where(values > float("-inf"), tl.exp(values - key_value(top)), 0.0)
    tl.store(tops + place, top)
    tl.store(masses + place, tl.sum(weights, 0))
    most = tl.load(top_k + row)
    alone = min_p_alone(most, tl.load(top_p + row), tl.load(min_p + row), VOCABULARY)
    if is_open(heat, most, VOCABULARY, MOST) & (alone == 0):
        noise = gumbel(tl.load(seed + row), tl.load(position + row), ids)
        tl.store(draws + place, tl.max(order_key(values + noise, ids), 0))
    if chunk == 0:
        tl.store(found + row, 0)


@triton.jit
def collect(
    logits, stride, banned_ids, temperature, top_k, top_p, min_p, seed, position,
    tops, draws, candidates, found, masses_before, counts_before,
    VOCABULARY: tl.constexpr, BANNED: tl.constexpr, MOST: tl.constexpr, CHUNKS: tl.constexpr, BLOCK: tl.constexpr,
    CHUNK: tl.constexpr, ROOM: tl.constexpr, OVERLAP: tl.constexpr,
):  # fmt: skip
    begin(OVERLAP)
    wait_for_inputs(OVERLAP)
    row = tl.program_id(0).to(tl.int64)
    chunk = tl.program_id(1)
    ids = chunk * CHUNK + tl.arange(0, CHUNK)
    source = logits + row * stride
    banned = banned_ids + row * BANNED
    heat = tl.load(temperature + row)
    most = tl.load(top_k + row)
    if is_closed(heat, most, VOCABULARY, MOST):
        floor = below_kth(chunk_maxima(tops + row * CHUNKS, CHUNKS, BLOCK), most)
        if key_value(tl.load(tops + row * CHUNKS + chunk)) >= floor:
            values = scaled(source, banned, ids, heat, VOCABULARY, BANNED)
            # What is -inf is never drawn, and where a grammar forbids most tokens the floor may be -inf.
            chosen = (values >= floor) & (values > float("-inf"))
            ones = chosen.to(tl.int32)
            slots = tl.atomic_add(found + row, tl.sum(ones, 0)) + tl.cumsum(ones, 0) - 1
            tl.store(candidates + row * ROOM + slots, order_key(values, ids), mask=chosen & (slots < ROOM))
    share = tl.load(top_p + row)
    least = tl.load(min_p + row)
    if is_open(heat, most, VOCABULARY, MOST) & is_filtered(most, share, least, VOCABULARY):
        values = scaled(source, banned, ids, heat, VOCABULARY, BANNED)
        weights = tl.exp(values - tl.max(chunk_maxima(tops + row * CHUNKS, CHUNKS, BLOCK), 0))
        place = row * CHUNKS + chunk
        if min_p_alone(most, share, least, VOCABULARY):
            best = tl.full((), NOTHING, tl.int64)
            kept = weights >= tl.minimum(least, 1.0)
            if tl.sum(kept.to(tl.int32), 0) > 0:
                noise = gumbel(tl.load(seed + row), tl.load(position + row), ids)
                best = tl.max(tl.where(kept, order_key(values + noise, ids), NOTHING), 0)
            tl.store(draws + place, best)
        else:
            drawn = best_id(draws + row * CHUNKS, CHUNKS, BLOCK)
            before = order_key(values, ids) > id_key(source, banned, drawn, heat, VOCABULARY, BANNED)
            tl.store(masses_before + place, tl.sum(tl.where(before, weights, 0.0), 0))
            tl.store(counts_before + place, tl.sum(before.to(tl.int32), 0))


@triton.jit
def _finish(
    logits, stride, banned_ids, temperature, top_k, top_p, min_p, seed, position,
    tops, masses, draws, candidates, found, masses_before, counts_before, out,
    undecided, bottoms, listed, bin_counts, bin_masses,
    VOCABULARY: tl.constexpr, BANNED: tl.constexpr, MOST: tl.constexpr, CHUNKS: tl.constexpr, BLOCK: tl.constexpr,
    LIKELY: tl.constexpr, ROOM: tl.constexpr, BINS: tl.constexpr, OVERLAP: tl.constexpr,
):  # fmt: skip
    begin(OVERLAP)
    wait_for_inputs(OVERLAP)
    row = tl.program_id(0).to(tl.int64)
    heat = tl.load(temperature + row)
    most = tl.load(top_k + row)
    share = tl.load(top_p + row)
    least = tl.load(min_p + row)
    token = best_id(tops + row * CHUNKS, CHUNKS, BLOCK)
    left = 0
    bottom = tl.full((), NOTHING, tl.int64)
    if is_closed(heat, most, VOCABULARY, MOST):
        count = tl.load(found + row)
        if count > ROOM:
            left = 1
        elif count > 0:
            keys = best_candidates(candidates + row * ROOM, count, MOST, LIKELY, ROOM)
            kept = tl.minimum(most, count)
            token = draw_sorted(keys, kept, share, least, tl.load(seed + row), tl.load(position + row), MOST)
    if is_open(heat, most, VOCABULARY, MOST):
        best = best_key(draws + row * CHUNKS, CHUNKS, BLOCK)
        token = tl.where(best > NOTHING, key_id(best), token)
        filtered = is_filtered(most, share, least, VOCABULARY)
        if filtered & (min_p_alone(most, share, least, VOCABULARY) == 0):
            chunks = tl.arange(0, BLOCK)
            inside = chunks < CHUNKS
            mass = tl.sum(tl.load(masses_before + row * CHUNKS + chunks, mask=inside, other=0.0), 0)
            count = tl.sum(tl.load(counts_before + row * CHUNKS + chunks, mask=inside, other=0), 0)
            largest = chunk_maxima(tops + row * CHUNKS, CHUNKS, BLOCK)
            peak = tl.max(largest, 0)
            drawn = id_key(logits + row * stride, banned_ids + row * BANNED, token, heat, VOCABULARY, BANNED)
            if limits(most, VOCABULARY):
                kept = (share >= 1.0) & (count < most)  # of what mass top_p takes its share is not known here
            else:
                kept = (share >= 1.0) | (mass < share * whole_mass(masses + row * CHUNKS, largest, peak, CHUNKS, BLOCK))
            kept = kept & (tl.exp(key_value(drawn) - peak) >= tl.minimum(least, 1.0))
            if (count > 0) & (kept == 0):
                left = 1
                if (share >= 1.0) | (count >= most) | (limits(most, VOCABULARY) == 0):
                    bottom = drawn  # it was refused; else that is not known yet
    tl.store(out + row, token)
    tl.store(undecided + row, left)
    if left == 1:
        if limits(most, VOCABULARY):
            floor = below_kth(chunk_maxima(tops + row * CHUNKS, CHUNKS, BLOCK), most)
            bottom = tl.maximum(bottom, order_key(floor, tl.full((), 0x7FFFFFFF, tl.int32)))
        bins = row * BINS + tl.arange(0, BINS)
        tl.store(bottoms + row, bottom)
        tl.store(listed + row, 0)
        tl.store(bin_counts + bins, tl.zeros((BINS,), tl.int32))
        tl.store(bin_masses + bins, tl.zeros((BINS,), tl.int64))
