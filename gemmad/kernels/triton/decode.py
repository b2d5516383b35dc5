"""Paged attention in Triton for sequences that bring one token.

A program takes the keys of one sequence for one key-value head, whose G query heads are the rows of one tile. Few long
sequences are split over their keys (Flash-Decoding, https://pytorch.org/blog/flash-decoding): each split leaves its sum
with its maximum and denominator, and the one that arrives last combines them, so that no second kernel has to start.

A token that comes alone is the last of its context and sees all of it, or its window of it.
"""
# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator, name-defined"
# ruff: noqa: N803, PLR0912, PLR0913, PLR0915, PLR0917  (a kernel takes what it touches; capitals are constants)

from __future__ import annotations

import functools

import torch
import triton
import triton.language as tl

from gemmad.kernels.batch import AttentionBatch
from gemmad.kernels.pages import Pages
from gemmad.kernels.triton.attention_tiles import MOST_SPLIT_PROGRAMS, Tile
from gemmad.kernels.triton.kvcodes import as_words, lift
from gemmad.kernels.triton.prefill import LOG2E, find_pages, key_places, load_rows, mix, needs_wide, score


def decode(
    q: torch.Tensor,
    pages: Pages,
    batch: AttentionBatch,
    *,
    tile: Tile,
    scale: float,
    out: torch.Tensor | None = None,
) -> torch.Tensor:
    """q [T, H, D] → [T, H, D]; equal to `reference.attention.paged_attention`.

    Only rows of sequences with a single token are written, into `out` where it is given.
    """
    tokens, heads, head_dim = q.shape
    _, page_tokens, kv_heads, _ = pages.keys.shape
    view = as_words(pages)
    sequences = batch.context_lens.shape[0]
    out = torch.empty_like(q) if out is None else out
    partial = softmax = arrivals = out
    if tile.splits > 1:
        partial = torch.empty(tile.splits, tokens, heads, head_dim, dtype=torch.float32, device=q.device)
        softmax = torch.empty(2, tile.splits, tokens, heads, dtype=torch.float32, device=q.device)
        arrivals = _arrivals(q.device, MOST_SPLIT_PROGRAMS * kv_heads)
        assert sequences * kv_heads <= len(arrivals), "more sequences than are ever split"
    # Codes leave fewer instructions to a byte: none goes into masks where no block leaves its page.
    whole = view.kind > 0 and page_tokens % tile.block_n == 0
    _decode[(sequences, kv_heads, tile.splits)](
        q, view.keys, view.values, view.key_scales, view.value_scales, out, partial, softmax, arrivals,
        batch.page_table, batch.query_starts, batch.context_lens, batch.columns, tokens, scale * LOG2E,
        *view.strides, *view.scale_strides,
        HEADS=heads, GROUP=heads // kv_heads, WIDTH=view.width, BLOCK_W=view.block_width, PLANES=view.planes,
        KIND=view.kind, NATIVE=q.device.type == "cuda",
        BLOCK_M=max(16, triton.next_power_of_2(heads // kv_heads)), BLOCK_N=tile.block_n, PAGE=page_tokens,
        WINDOW=batch.window or 0, WIDE=needs_wide(view.keys), WHOLE=whole,
        SPLITS=tile.splits, BLOCK_S=triton.next_power_of_2(tile.splits),
        num_warps=tile.warps, num_stages=tile.stages, enable_fp_fusion=True,
    )  # fmt: skip
    return out


@functools.cache
def _arrivals(device: torch.device, count: int) -> torch.Tensor:
    """Counters that every launch leaves at 0; taken at the first, which is not a captured one."""
    return torch.zeros(count, dtype=torch.int32, device=device)


@triton.jit(do_not_specialize=["tokens"])
def _decode(
    q_ptr, k_ptr, v_ptr, k_scale_ptr, v_scale_ptr, out_ptr, partial_ptr, softmax_ptr, arrivals_ptr,
    table_ptr, starts_ptr, contexts_ptr, columns_ptr, tokens, scale,
    page_stride, token_stride, head_stride, scale_page_stride, scale_token_stride, scale_head_stride,
    HEADS: tl.constexpr, GROUP: tl.constexpr, WIDTH: tl.constexpr, BLOCK_W: tl.constexpr, PLANES: tl.constexpr,
    KIND: tl.constexpr, NATIVE: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
    PAGE: tl.constexpr, WINDOW: tl.constexpr, WIDE: tl.constexpr, WHOLE: tl.constexpr,
    SPLITS: tl.constexpr, BLOCK_S: tl.constexpr,
):  # fmt: skip
    sequence = tl.program_id(0)
    head = tl.program_id(1)
    split = tl.program_id(2)
    query = tl.load(starts_ptr + sequence)
    stop = tl.load(starts_ptr + sequence + 1)
    context = tl.load(contexts_ptr + sequence)
    columns = tl.load(columns_ptr)
    if (stop - query != 1) | (context == 0):
        return

    lowest = 0
    begin = 0
    shift = 0
    if WINDOW > 0:
        lowest = tl.maximum(context - WINDOW, 0)
        begin = lowest // BLOCK_N * BLOCK_N
        shift = (lowest // PAGE) % columns - lowest // PAGE
    end = context
    if SPLITS > 1:
        share = tl.cdiv(tl.cdiv(end - begin, SPLITS), BLOCK_N) * BLOCK_N
        begin += split * share
        end = tl.minimum(end, begin + share)

    rows = tl.arange(0, BLOCK_M)
    dims = tl.arange(0, BLOCK_W)
    inside = (rows < GROUP)[:, None] & (dims < WIDTH)[None, :]
    row = query.to(tl.int64) * HEADS + head * GROUP + rows
    place = row[:, None] * (WIDTH * PLANES) + dims[None, :] * PLANES
    q = tl.load(q_ptr + place, mask=inside, other=0.0)
    q_odd = tl.load(q_ptr + place + (PLANES - 1), mask=inside, other=0.0)
    row_table = table_ptr + sequence * columns
    k_ptr += head * head_stride
    v_ptr += head * head_stride
    k_scale_ptr += head * scale_head_stride
    v_scale_ptr += head * scale_head_stride
    if KIND:
        q = (q.to(tl.float32) * lift(KIND, NATIVE)).to(q.dtype)
        q_odd = (q_odd.to(tl.float32) * lift(KIND, NATIVE)).to(q.dtype)
    best = tl.full([BLOCK_M], -1.0e30, dtype=tl.float32)  # finite: a split without keys must not give NaN
    total = tl.zeros([BLOCK_M], dtype=tl.float32)
    mixed = tl.zeros([BLOCK_M, BLOCK_W], dtype=tl.float32)
    mixed_odd = tl.zeros([BLOCK_M, BLOCK_W], dtype=tl.float32)
    for block in range(begin, end, BLOCK_N):
        page, wanted = find_pages(row_table, block, shift, columns, lowest, end, BLOCK_N, PAGE, WINDOW)
        base, offset = key_places(page, block, page_stride, token_stride, BLOCK_N, PAGE, WIDE)
        k = load_rows(k_ptr + base, offset, dims, wanted, WIDTH, WHOLE)
        v = load_rows(v_ptr + base, offset, dims, wanted, WIDTH, WHOLE)
        scores = score(q, q_odd, k, KIND, NATIVE) * scale
        if KIND:
            base, offset = key_places(page, block, scale_page_stride, scale_token_stride, BLOCK_N, PAGE, WIDE)
            k_scale = tl.load(k_scale_ptr + base + offset, mask=wanted, other=0.0) * lift(KIND, NATIVE)
            v_scale = tl.load(v_scale_ptr + base + offset, mask=wanted, other=0.0) * lift(KIND, NATIVE)
            scores = scores * k_scale[None, :]
        scores = tl.where(wanted[None, :], scores, float("-inf"))
        new_best = tl.maximum(best, tl.max(scores, 1))
        weights = tl.exp2(scores - new_best[:, None])
        decay = tl.exp2(best - new_best)
        total = total * decay + tl.sum(weights, 1)
        if KIND:
            weights = weights * v_scale[None, :]
        mixed, mixed_odd = mix(weights.to(q.dtype), v, mixed, mixed_odd, decay, KIND, NATIVE)
        best = new_best

    if KIND:
        mixed = mixed * lift(KIND, NATIVE)
        mixed_odd = mixed_odd * lift(KIND, NATIVE)
    if SPLITS == 1:
        tl.store(out_ptr + place, (mixed / total[:, None]).to(out_ptr.dtype.element_ty), mask=inside)
        if KIND:
            tl.store(out_ptr + place + 1, (mixed_odd / total[:, None]).to(out_ptr.dtype.element_ty), mask=inside)
    else:
        stride = tokens.to(tl.int64) * HEADS
        ours = split * stride
        partial = partial_ptr + ours * (WIDTH * PLANES) + place
        tl.store(partial, mixed, mask=inside)
        if KIND:
            tl.store(partial + 1, mixed_odd, mask=inside)
        tl.store(softmax_ptr + ours + row, best, mask=rows < GROUP)
        tl.store(softmax_ptr + SPLITS * stride + ours + row, total, mask=rows < GROUP)
        # All of this program's stores, then its arrival: who sees the last arrival sees every split's stores.
        tl.debug_barrier()
        counter = arrivals_ptr + sequence * tl.num_programs(1) + head
        if tl.atomic_add(counter, 1, sem="acq_rel", scope="gpu") == SPLITS - 1:
            tl.store(counter, 0)
            for member in tl.static_range(GROUP):
                _combine(
                    partial_ptr, softmax_ptr, out_ptr, query.to(tl.int64) * HEADS + head * GROUP + member,
                    stride, WIDTH * PLANES, BLOCK_W * PLANES, SPLITS, BLOCK_S,
                )  # fmt: skip


@triton.jit
def _combine(
    partial_ptr, softmax_ptr, out_ptr, row, stride,
    HEAD_DIM: tl.constexpr, BLOCK_D: tl.constexpr, SPLITS: tl.constexpr, BLOCK_S: tl.constexpr,
):  # fmt: skip
    """One head's sums over all splits into its output. What others stored is read past the first cache."""
    splits = tl.arange(0, BLOCK_S)
    dims = tl.arange(0, BLOCK_D)
    rows = splits * stride + row
    best = tl.load(softmax_ptr + rows, mask=splits < SPLITS, other=-1.0e30, cache_modifier=".cg")
    total = tl.load(softmax_ptr + SPLITS * stride + rows, mask=splits < SPLITS, other=0.0, cache_modifier=".cg")
    weight = tl.exp2(best - tl.max(best, 0))
    wanted = (splits < SPLITS)[:, None] & (dims < HEAD_DIM)[None, :]
    places = rows[:, None] * HEAD_DIM + dims[None, :]
    mixed = tl.load(partial_ptr + places, mask=wanted, other=0.0, cache_modifier=".cg")
    out = tl.sum(mixed * weight[:, None], 0) / tl.sum(total * weight, 0)
    tl.store(out_ptr + row * HEAD_DIM + dims, out.to(out_ptr.dtype.element_ty), mask=dims < HEAD_DIM)
