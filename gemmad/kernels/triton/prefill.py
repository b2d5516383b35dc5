"""Ragged paged attention in Triton where sequences bring more than one token: window, images and grouped queries.

A program computes BLOCK_Q queries of one sequence for one key-value head, whose G query heads are the rows of one tile
(FlashAttention-2's online softmax, https://arxiv.org/abs/2307.08691). Only blocks of keys that some row may not see
whole are masked: those at the window's edge and at the diagonal.

Which sequence a program works on follows from its number, by bisection of `first_programs`. The grid depends on the
sizes of the batch only, not on its contents, so a captured graph serves every batch of its size; programs without work
leave at once. Numbers are taken from the last one down: the queries that see most keys begin first, and short work
fills the gaps.
"""
# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator, name-defined"
# ruff: noqa: N803, PLR0913, PLR0915, PLR0917  (a kernel takes what it touches; capitals are constants)

from __future__ import annotations

import torch
import triton
import triton.language as tl

from gemmad.kernels.batch import AttentionBatch
from gemmad.kernels.pages import Pages
from gemmad.kernels.triton.attention_tiles import Tile
from gemmad.kernels.triton.kvcodes import as_words, lift, planes
from gemmad.kernels.triton.programs import first_programs

LOG2E = 1.4426950408889634


def prefill(
    q: torch.Tensor,
    pages: Pages,
    batch: AttentionBatch,
    *,
    tile: Tile,
    scale: float,
    first: torch.Tensor | None = None,
) -> torch.Tensor:
    """q [T, H, D] → [T, H, D]; equal to `reference.attention.paged_attention`.

    `first`: `first_programs` for the tile's queries; rows of a sequence that owns no program stay as they were taken
    from memory. None: every sequence is computed.
    """
    tokens, heads = q.shape[:2]
    _, page_tokens, kv_heads, _ = pages.keys.shape
    view = as_words(pages)
    group = heads // kv_heads
    sequences = batch.context_lens.shape[0]
    out = torch.empty_like(q)
    first = first_programs(batch, tile.block_q) if first is None else first
    _prefill[(kv_heads, tokens // tile.block_q + sequences)](
        q, view.keys, view.values, view.key_scales, view.value_scales, out,
        batch.page_table, first, batch.query_starts, batch.positions, batch.reach,
        batch.columns, sequences, scale * LOG2E, *view.strides, *view.scale_strides,
        HEADS=heads, GROUP=group, WIDTH=view.width, BLOCK_W=view.block_width, PLANES=view.planes,
        KIND=view.kind, NATIVE=q.device.type == "cuda",
        BLOCK_Q=tile.block_q, BLOCK_M=max(16, triton.next_power_of_2(tile.block_q * group)), BLOCK_N=tile.block_n,
        PAGE=page_tokens, WINDOW=batch.window or 0, WIDE=needs_wide(view.keys),
        num_warps=tile.warps, num_stages=tile.stages, enable_fp_fusion=True,
    )  # fmt: skip
    return out


@triton.jit(do_not_specialize=["sequences"])
def _prefill(
    q_ptr, k_ptr, v_ptr, k_scale_ptr, v_scale_ptr, out_ptr,
    table_ptr, first_ptr, starts_ptr, positions_ptr, reach_ptr, columns_ptr, sequences, scale,
    page_stride, token_stride, head_stride, scale_page_stride, scale_token_stride, scale_head_stride,
    HEADS: tl.constexpr, GROUP: tl.constexpr, WIDTH: tl.constexpr, BLOCK_W: tl.constexpr, PLANES: tl.constexpr,
    KIND: tl.constexpr, NATIVE: tl.constexpr, BLOCK_Q: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
    PAGE: tl.constexpr, WINDOW: tl.constexpr, WIDE: tl.constexpr,
):  # fmt: skip
    head = tl.program_id(0)
    program = tl.load(first_ptr + sequences) - 1 - tl.program_id(1)
    if program < 0:
        return
    sequence = find_sequence(first_ptr, sequences, program)
    stop = tl.load(starts_ptr + sequence + 1)
    first_query = tl.load(starts_ptr + sequence) + (program - tl.load(first_ptr + sequence)) * BLOCK_Q
    columns = tl.load(columns_ptr)

    rows = tl.arange(0, BLOCK_M)
    dims = tl.arange(0, BLOCK_W)
    query = first_query + rows // GROUP
    live = (rows < BLOCK_Q * GROUP) & (query < stop)
    inside = live[:, None] & (dims < WIDTH)[None, :]
    row_offset = (query * HEADS + head * GROUP + rows % GROUP).to(tl.int64)
    place = row_offset[:, None] * (WIDTH * PLANES) + dims[None, :] * PLANES
    q = tl.load(q_ptr + place, mask=inside, other=0.0)
    q_odd = tl.load(q_ptr + place + (PLANES - 1), mask=inside, other=0.0)
    reach = tl.load(reach_ptr + query, mask=live, other=-1).to(tl.int32)
    first_position = tl.load(positions_ptr + first_query).to(tl.int32)

    # Keys [begin, end) are seen by some row, [clear_begin, clear_end) by every one: reach never falls along a chunk.
    end = tl.max(reach, 0) + 1
    clear_end = tl.load(reach_ptr + first_query).to(tl.int32) + 1
    lowest = 0
    begin = 0
    clear_begin = 0
    shift = 0
    if WINDOW > 0:
        lowest = tl.maximum(first_position - WINDOW + 1, 0)
        begin = lowest // BLOCK_N * BLOCK_N
        clear_begin = first_position + tl.minimum(BLOCK_Q, stop - first_query) - WINDOW
        shift = (lowest // PAGE) % columns - lowest // PAGE
    floor = first_position + rows // GROUP - WINDOW

    row_table = table_ptr + sequence * columns
    k_ptr += head * head_stride
    v_ptr += head * head_stride
    k_scale_ptr += head * scale_head_stride
    v_scale_ptr += head * scale_head_stride
    if KIND:
        q = (q.to(tl.float32) * lift(KIND, NATIVE)).to(q.dtype)
        q_odd = (q_odd.to(tl.float32) * lift(KIND, NATIVE)).to(q.dtype)
    best = tl.full([BLOCK_M], -1.0e30, dtype=tl.float32)  # finite: a row that sees nothing yet must not give NaN
    total = tl.zeros([BLOCK_M], dtype=tl.float32)
    mixed = tl.zeros([BLOCK_M, BLOCK_W], dtype=tl.float32)
    mixed_odd = tl.zeros([BLOCK_M, BLOCK_W], dtype=tl.float32)
    for block in range(begin, end, BLOCK_N):
        page, wanted = find_pages(row_table, block, shift, columns, lowest, end, BLOCK_N, PAGE, WINDOW)
        base, offset = key_places(page, block, page_stride, token_stride, BLOCK_N, PAGE, WIDE)
        k = load_rows(k_ptr + base, offset, dims, wanted, WIDTH, PAGE % BLOCK_N == 0)
        v = load_rows(v_ptr + base, offset, dims, wanted, WIDTH, PAGE % BLOCK_N == 0)
        scores = score(q, q_odd, k, KIND, NATIVE)
        if KIND:
            base, offset = key_places(page, block, scale_page_stride, scale_token_stride, BLOCK_N, PAGE, WIDE)
            k_scale = tl.load(k_scale_ptr + base + offset, mask=wanted, other=0.0) * lift(KIND, NATIVE)
            v_scale = tl.load(v_scale_ptr + base + offset, mask=wanted, other=0.0) * lift(KIND, NATIVE)
            scores = scores * k_scale[None, :]
        if (block < clear_begin) | (block + BLOCK_N > clear_end):
            key = (block + tl.arange(0, BLOCK_N))[None, :]
            seen = key <= reach[:, None]
            if WINDOW > 0:
                seen = seen & (key > floor[:, None])
            scores = tl.where(seen, scores, float("-inf"))
        new_best = tl.maximum(best, tl.max(scores, 1))
        weights = tl.exp2(scores * scale - (new_best * scale)[:, None])
        decay = tl.exp2((best - new_best) * scale)
        total = total * decay + tl.sum(weights, 1)
        if KIND:
            weights = weights * v_scale[None, :]
        mixed, mixed_odd = mix(weights.to(q.dtype), v, mixed, mixed_odd, decay, KIND, NATIVE)
        best = new_best
    total = tl.where(live, total, 1.0)[:, None]
    if KIND:
        mixed = mixed * lift(KIND, NATIVE)
        mixed_odd = mixed_odd * lift(KIND, NATIVE)
    tl.store(out_ptr + place, (mixed / total).to(out_ptr.dtype.element_ty), mask=inside)
    if KIND:
        tl.store(out_ptr + place + 1, (mixed_odd / total).to(out_ptr.dtype.element_ty), mask=inside)


@triton.jit
def score(q, q_odd, k, KIND: tl.constexpr, NATIVE: tl.constexpr):
    """Products of queries [M, C], in planes where keys are coded, with keys [N, C] → [M, N], unscaled."""
    even, odd = planes(k, KIND, NATIVE, q.dtype)
    scores = tl.dot(q, tl.trans(even), input_precision="ieee")
    if KIND:
        scores = tl.dot(q_odd, tl.trans(odd), scores, input_precision="ieee")
    return scores


@triton.jit
def mix(weights, v, mixed, mixed_odd, decay, KIND: tl.constexpr, NATIVE: tl.constexpr):
    """Earlier sums [M, C] times `decay` [M], and values [N, C] times weights [M, N]: both planes of them, where they
    are coded, else the first sum alone."""
    even, odd = planes(v, KIND, NATIVE, weights.dtype)
    mixed = tl.dot(weights, even, mixed * decay[:, None], input_precision="ieee")
    if KIND:
        mixed_odd = tl.dot(weights, odd, mixed_odd * decay[:, None], input_precision="ieee")
    return mixed, mixed_odd


@triton.jit
def find_sequence(first_ptr, sequences, program):
    """The last sequence whose first program is not after this one: the one that owns it."""
    low = 0
    high = sequences
    while low < high:
        middle = (low + high) // 2
        if tl.load(first_ptr + middle) <= program:
            low = middle + 1
        else:
            high = middle
    return low - 1


@triton.jit
def find_pages(
    row_table, block, shift, columns, lowest, end,
    BLOCK_N: tl.constexpr, PAGE: tl.constexpr, WINDOW: tl.constexpr,
):  # fmt: skip
    """The pages of a block's keys, [N], or one for all where pages hold whole blocks, and which keys are there [N].

    `shift` leads from a page's index to its column, but for one turn of the ring.
    """
    key = block + tl.arange(0, BLOCK_N)
    wanted = (key >= lowest) & (key < end)
    if PAGE % BLOCK_N == 0:
        column = block // PAGE + shift
        if WINDOW > 0:
            column = tl.where(column >= columns, column - columns, column)
        page = tl.load(row_table + column)
    else:
        column = key // PAGE + shift
        if WINDOW > 0:
            column = tl.where(column >= columns, column - columns, column)
        page = tl.load(row_table + column, mask=wanted, other=0)
    return page, wanted


@triton.jit
def key_places(
    page, block, page_stride, token_stride, BLOCK_N: tl.constexpr, PAGE: tl.constexpr, WIDE: tl.constexpr
):  # fmt: skip
    """Where what belongs to the keys of a block lies in `find_pages`' pages, as one offset for all and one each [N]."""
    if PAGE % BLOCK_N == 0:
        base = page.to(tl.int64) * page_stride + (block % PAGE) * token_stride
        offset = tl.arange(0, BLOCK_N) * token_stride
    else:
        base = 0
        key = block + tl.arange(0, BLOCK_N)
        offset = (page.to(tl.int64) if WIDE else page) * page_stride + (key % PAGE) * token_stride
    return base, offset


@triton.jit
def load_rows(first, offset, dims, wanted, WIDTH: tl.constexpr, WHOLE: tl.constexpr):
    """Rows [N, C] at `first + offset`. WHOLE: none lies outside its page, so all are read: what is not wanted gets no
    weight, and pages hold numbers only."""
    places = first + (offset[:, None] + dims[None, :])
    if dims.shape[0] != WIDTH:
        return tl.load(places, mask=wanted[:, None] & (dims < WIDTH)[None, :], other=0)
    elif WHOLE:
        return tl.load(places)
    else:
        return tl.load(places, mask=wanted[:, None], other=0)


def needs_wide(pages: torch.Tensor) -> bool:
    """Whether offsets into a layer's pages need 64 bits."""
    return pages.shape[0] * pages.stride(0) >= 1 << 31
