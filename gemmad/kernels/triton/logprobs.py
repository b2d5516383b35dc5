"""Log-probabilities without sorting the vocabulary; equal to `reference.sampling.logprobs`.

The likeliest tokens are what a row with top_k keeps, so `sampling`'s first two kernels find them: maxima and masses of
chunks, then a list of few candidates, as for a row of temperature 1 without bans. A last kernel sorts the list.
"""
# mypy: disable-error-code="no-untyped-def,untyped-decorator"
# ruff: noqa: N803, PLR0913, PLR0917  (compile-time arguments are written in capitals; a kernel takes what it touches)

from __future__ import annotations

import torch
import triton
import triton.language as tl

from gemmad.kernels.batch import Logprobs
from gemmad.kernels.triton import launch
from gemmad.kernels.triton.cut import Cut
from gemmad.kernels.triton.launch import begin, wait_for_inputs
from gemmad.kernels.triton.noise import NOTHING, key_id, key_value, order_key
from gemmad.kernels.triton.rows import best_candidates, chunk_maxima, scaled, whole_mass
from gemmad.kernels.triton.sampling import collect, survey


def logprobs(logits: torch.Tensor, tokens: torch.Tensor, *, count: int, cut: Cut | None = None) -> Logprobs:
    """What the network held of `tokens` [R] int64 and of each row's `count` likeliest.

    logits [R, vocab] of any float type; `count` is less than that and at most `cut.most`.
    """
    cut = cut or Cut()
    rows, vocabulary = logits.shape
    chunks: int = triton.cdiv(vocabulary, cut.chunk)
    assert logits.stride(1) == 1, "a row of logits lies in one piece"
    assert 0 < count <= cut.most, "more than this are not listed"
    assert count < vocabulary, "the whole vocabulary is not listed"

    def full(value: float, dtype: torch.dtype = torch.int64) -> torch.Tensor:
        return torch.full((rows,), value, dtype=dtype, device=logits.device)

    def empty(dtype: torch.dtype, *shape: int) -> torch.Tensor:
        return torch.empty((rows, *shape), dtype=dtype, device=logits.device)

    found, candidates = empty(torch.int32), empty(torch.int64, cut.room)
    tops, masses = empty(torch.int64, chunks), empty(torch.float32, chunks)
    told = Logprobs(empty(torch.float32), empty(torch.int64, count), empty(torch.float32, count))
    ones, zeros = full(1, torch.float32), full(0)
    # As a row of temperature 1 whose top_k is `count`; seed and position are not read, nor what open rows write.
    row_inputs = (logits, logits.stride(0), zeros, ones, full(count), ones, full(0, torch.float32), zeros, zeros)
    sizes = {"VOCABULARY": vocabulary, "BANNED": 0, "MOST": cut.most, "CHUNK": cut.chunk}
    over_chunks = {"CHUNKS": chunks, "BLOCK": triton.next_power_of_2(chunks)}
    options = launch.options(logits.device, warps=4)
    survey[(rows, chunks)](*row_inputs, tops, masses, tops, found, **sizes, **options)
    collect[(rows, chunks)](
        *row_inputs, tops, tops, candidates, found, masses, found, **sizes, **over_chunks, ROOM=cut.room, **options
    )  # fmt: skip
    _tell[(rows,)](
        logits, logits.stride(0), tokens, tops, masses, candidates, found, told.token, told.top_ids, told.top, count,
        VOCABULARY=vocabulary, **over_chunks, MOST=max(2, triton.next_power_of_2(count)), LIKELY=cut.likely,
        ROOM=cut.room, STRIDE=cut.stride, **options,
    )  # fmt: skip
    return told


@triton.jit
def _tell(
    logits, stride, tokens, tops, masses, candidates, found, token, top_ids, top, count,
    VOCABULARY: tl.constexpr, CHUNKS: tl.constexpr, BLOCK: tl.constexpr, MOST: tl.constexpr, LIKELY: tl.constexpr,
    ROOM: tl.constexpr, STRIDE: tl.constexpr, OVERLAP: tl.constexpr,
):  # fmt: skip
    begin(OVERLAP)
    wait_for_inputs(OVERLAP)
    row = tl.program_id(0).to(tl.int64)
    source = logits + row * stride
    largest = chunk_maxima(tops + row * CHUNKS, CHUNKS, BLOCK)
    peak = tl.max(largest, 0)
    mass = tl.log(whole_mass(masses + row * CHUNKS, largest, peak, CHUNKS, BLOCK))
    asked = tl.load(source + tl.load(tokens + row)).to(tl.float32)
    tl.store(token + row, asked - peak - mass)
    ranks = tl.arange(0, MOST)
    listed = tl.load(found + row)
    if listed <= ROOM:
        keys = best_candidates(candidates + row * ROOM, listed, MOST, LIKELY, ROOM)
    else:
        keys = best_of_all(source, VOCABULARY, MOST, STRIDE)
    there = keys > NOTHING
    inside = ranks < count
    tl.store(top_ids + row * count + ranks, tl.where(there, key_id(keys), -1), mask=inside)
    tl.store(top + row * count + ranks, tl.where(there, key_value(keys) - peak - mass, float("-inf")), mask=inside)


@triton.jit
def best_of_all(source, VOCABULARY: tl.constexpr, MOST: tl.constexpr, STRIDE: tl.constexpr):
    """The largest keys of a row, in order, a walk over the row for each: where too many tokens are all but equal."""
    ranks = tl.arange(0, MOST)
    keys = tl.full((MOST,), NOTHING, tl.int64)
    last = tl.full((), 0x7FFFFFFFFFFFFFFF, tl.int64)
    heat = tl.full((), 1.0, tl.float32)
    for rank in range(0, MOST):
        best = tl.full((), NOTHING, tl.int64)
        for start in range(0, VOCABULARY, STRIDE):
            ids = start + tl.arange(0, STRIDE)
            values = scaled(source, source, ids, heat, VOCABULARY, 0)
            here = tl.where((values > float("-inf")) & (ids < VOCABULARY), order_key(values, ids), NOTHING)
            best = tl.maximum(best, tl.max(tl.where(here < last, here, NOTHING), 0))
        keys = tl.where(ranks == rank, best, keys)
        last = best
    return keys
