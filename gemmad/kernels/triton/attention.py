"""Ragged paged attention in Triton: prefill and decode, window, images and grouped queries in one kernel.

A program computes BLOCK_Q queries of one sequence for one key-value head, whose G query heads are the rows of one tile
(FlashAttention-2's online softmax, https://arxiv.org/abs/2307.08691). Few long sequences are split over their keys
(Flash-Decoding): each split leaves a partial sum with its maximum and denominator, and a second kernel combines them.

Which sequence a program works on follows from its number alone: sequence s owns the numbers from
`query_starts[s] // BLOCK_Q + s` on, and a program finds s by bisection. So the grid depends on the sizes of the batch
only, not on its contents, and a captured graph serves every batch of its size; programs without work leave at once.
"""
# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator, name-defined"
# ruff: noqa: N803, PLR0912, PLR0913, PLR0915, PLR0917, SIM108  (a kernel takes what it touches; capitals are constants)

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
import triton
import triton.language as tl

from gemmad.kernels.batch import AttentionBatch

_LOG2E = 1.4426950408889634


@dataclass(frozen=True)
class Tile:
    """How a batch is cut into programs."""

    block_q: int
    """Queries of a program."""
    block_n: int
    """Keys in one turn of its loop."""
    warps: int
    stages: int
    splits: int = 1
    """Programs that share the keys of one sequence."""


@dataclass(frozen=True)
class Launch:
    """A batch and its cut; the same for all layers over one pool."""

    batch: AttentionBatch
    tile: Tile


PREFILL = Tile(block_q=64, block_n=64, warps=8, stages=3)
MANY = Tile(block_q=1, block_n=32, warps=2, stages=2)
"""Decoding with enough sequences to fill the GPU."""
FEW = Tile(block_q=1, block_n=32, warps=4, stages=2)
"""Decoding with few: each one's keys are split."""
SPLIT_PROGRAMS = 32
"""Programs for each key-value head that a step with few sequences is cut into."""


def plan_launch(batch: AttentionBatch) -> Launch:
    """Choose the cut from the sizes of the batch; the tiles are what an H200 was fastest with at head size 256."""
    if batch.longest_query > 1:
        return Launch(batch, PREFILL)
    sequences = batch.context_lens.shape[0]
    if sequences > SPLIT_PROGRAMS // 2:
        return Launch(batch, MANY)
    return Launch(batch, replace(FEW, splits=SPLIT_PROGRAMS // sequences))


def paged_attention(
    q: torch.Tensor, key_pages: torch.Tensor, value_pages: torch.Tensor, launch: Launch, *, scale: float
) -> torch.Tensor:
    """q [T, H, D], pages [pages, page_tokens, K, D] → [T, H, D]; equal to `reference.attention.paged_attention`."""
    batch = launch.batch
    tile = launch.tile if q.element_size() <= 2 else _widened(launch.tile)
    tokens, heads, head_dim = q.shape
    _, page_tokens, kv_heads, _ = key_pages.shape
    group = heads // kv_heads
    sequences = batch.context_lens.shape[0]
    block_d = max(16, triton.next_power_of_2(head_dim))
    out = torch.empty_like(q)
    partial = softmax = out
    if tile.splits > 1:
        partial = torch.empty(tile.splits, tokens, heads, head_dim, dtype=torch.float32, device=q.device)
        softmax = torch.empty(2, tile.splits, tokens, heads, dtype=torch.float32, device=q.device)
    programs = tokens if tile.block_q == 1 else tokens // tile.block_q + sequences
    _attend[(programs, kv_heads, tile.splits)](
        q, key_pages, value_pages, partial, softmax,
        batch.page_table, batch.query_starts, batch.context_lens, batch.positions, batch.reach,
        batch.columns, sequences, tokens, scale * _LOG2E,
        key_pages.stride(0), key_pages.stride(1), key_pages.stride(2),
        HEADS=heads, GROUP=group, HEAD_DIM=head_dim, BLOCK_D=block_d, BLOCK_Q=tile.block_q,
        BLOCK_M=max(16, triton.next_power_of_2(tile.block_q * group)), BLOCK_N=tile.block_n, PAGE=page_tokens,
        WINDOW=batch.window or 0, SPLITS=tile.splits, num_warps=tile.warps, num_stages=tile.stages,
    )  # fmt: skip
    if tile.splits > 1:
        _combine[(tokens, heads)](
            partial, softmax, out, tokens,
            HEADS=heads, HEAD_DIM=head_dim, BLOCK_D=block_d, SPLITS=tile.splits,
            BLOCK_S=triton.next_power_of_2(tile.splits), num_warps=4,
        )  # fmt: skip
    return out


def _widened(tile: Tile) -> Tile:
    """The tile for float32, of which shared memory holds half as many numbers."""
    return replace(tile, block_q=min(tile.block_q, 16), block_n=min(tile.block_n, 32), stages=1)


@triton.jit
def _attend(
    q_ptr, k_ptr, v_ptr, out_ptr, softmax_ptr,
    table_ptr, starts_ptr, contexts_ptr, positions_ptr, reach_ptr,
    columns_ptr, sequences, tokens, scale,
    page_stride, token_stride, head_stride,
    HEADS: tl.constexpr, GROUP: tl.constexpr, HEAD_DIM: tl.constexpr, BLOCK_D: tl.constexpr,
    BLOCK_Q: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, PAGE: tl.constexpr,
    WINDOW: tl.constexpr, SPLITS: tl.constexpr,
):  # fmt: skip
    program = tl.program_id(0)
    head = tl.program_id(1)
    split = tl.program_id(2)
    # The last sequence whose first program is not after this one.
    low = 0
    high = sequences
    while low < high:
        middle = (low + high) // 2
        first_program = tl.load(starts_ptr + middle)
        if BLOCK_Q > 1:
            first_program = first_program // BLOCK_Q + middle
        if first_program <= program:
            low = middle + 1
        else:
            high = middle
    sequence = low - 1
    start = tl.load(starts_ptr + sequence)
    stop = tl.load(starts_ptr + sequence + 1)
    if BLOCK_Q > 1:
        first_query = start + (program - (start // BLOCK_Q + sequence)) * BLOCK_Q
    else:
        first_query = program
    context = tl.load(contexts_ptr + sequence)
    columns = tl.load(columns_ptr)
    if (first_query >= stop) | (context == 0):
        return

    rows = tl.arange(0, BLOCK_M)
    dims = tl.arange(0, BLOCK_D)
    query = first_query + rows // GROUP
    live = (rows < BLOCK_Q * GROUP) & (query < stop)
    q_head = head * GROUP + rows % GROUP
    inside = live[:, None] & (dims < HEAD_DIM)[None, :]
    row_offset = (query * HEADS + q_head).to(tl.int64)
    q = tl.load(q_ptr + row_offset[:, None] * HEAD_DIM + dims[None, :], mask=inside, other=0.0)
    position = tl.load(positions_ptr + query, mask=live, other=0).to(tl.int32)
    reach = tl.load(reach_ptr + query, mask=live, other=-1).to(tl.int32)

    end = tl.minimum(tl.max(reach, 0) + 1, context)
    begin = 0
    if WINDOW > 0:
        lowest = tl.load(positions_ptr + first_query).to(tl.int32) - WINDOW + 1
        begin = tl.maximum(lowest, 0) // BLOCK_N * BLOCK_N
    if SPLITS > 1:
        share = tl.cdiv(tl.cdiv(end - begin, SPLITS), BLOCK_N) * BLOCK_N
        begin += split * share
        end = tl.minimum(end, begin + share)

    best = tl.full([BLOCK_M], float("-inf"), dtype=tl.float32)
    total = tl.zeros([BLOCK_M], dtype=tl.float32)
    mixed = tl.zeros([BLOCK_M, BLOCK_D], dtype=tl.float32)
    for block in range(begin, end, BLOCK_N):
        key = block + tl.arange(0, BLOCK_N)
        present = key < end
        if WINDOW > 0:
            present = present & (key >= lowest)
        column = (key // PAGE) % columns
        page = tl.load(table_ptr + sequence * columns + column, mask=present, other=0)
        offset = page.to(tl.int64) * page_stride + (key % PAGE) * token_stride + head * head_stride
        wanted = present[:, None] & (dims < HEAD_DIM)[None, :]
        k = tl.load(k_ptr + offset[:, None] + dims[None, :], mask=wanted, other=0.0)
        scores = tl.dot(q, tl.trans(k).to(q.dtype), input_precision="ieee") * scale
        seen = present[None, :] & (key[None, :] <= reach[:, None])
        if WINDOW > 0:
            seen = seen & (key[None, :] > position[:, None] - WINDOW)
        scores = tl.where(seen, scores, float("-inf"))
        new_best = tl.maximum(best, tl.max(scores, 1))
        safe = tl.where(new_best == float("-inf"), 0.0, new_best)
        weights = tl.exp2(scores - safe[:, None])
        decay = tl.exp2(best - safe)
        total = total * decay + tl.sum(weights, 1)
        v = tl.load(v_ptr + offset[:, None] + dims[None, :], mask=wanted, other=0.0)
        mixed = mixed * decay[:, None] + tl.dot(weights.to(q.dtype), v.to(q.dtype), input_precision="ieee")
        best = new_best

    if SPLITS > 1:
        row = split * tokens * HEADS + row_offset
        tl.store(out_ptr + row[:, None] * HEAD_DIM + dims[None, :], mixed, mask=inside)
        tl.store(softmax_ptr + row, best, mask=live)
        tl.store(softmax_ptr + SPLITS * tokens * HEADS + row, total, mask=live)
    else:
        mixed = (mixed / tl.where(live, total, 1.0)[:, None]).to(out_ptr.dtype.element_ty)
        tl.store(out_ptr + row_offset[:, None] * HEAD_DIM + dims[None, :], mixed, mask=inside)


@triton.jit
def _combine(
    partial_ptr, softmax_ptr, out_ptr, tokens,
    HEADS: tl.constexpr, HEAD_DIM: tl.constexpr, BLOCK_D: tl.constexpr, SPLITS: tl.constexpr, BLOCK_S: tl.constexpr,
):  # fmt: skip
    row = (tl.program_id(0) * HEADS + tl.program_id(1)).to(tl.int64)
    splits = tl.arange(0, BLOCK_S)
    dims = tl.arange(0, BLOCK_D)
    rows = splits * tokens * HEADS + row
    best = tl.load(softmax_ptr + rows, mask=splits < SPLITS, other=float("-inf"))
    total = tl.load(softmax_ptr + SPLITS * tokens * HEADS + rows, mask=splits < SPLITS, other=0.0)
    top = tl.max(best, 0)
    weight = tl.where(best == float("-inf"), 0.0, tl.exp2(best - top))
    wanted = (splits < SPLITS)[:, None] & (dims < HEAD_DIM)[None, :]
    mixed = tl.load(partial_ptr + rows[:, None] * HEAD_DIM + dims[None, :], mask=wanted, other=0.0)
    # A split that saw no key left nothing: its weight is 0 and its sum must not be read as a number.
    summed = tl.sum(tl.where(weight[:, None] > 0, mixed * weight[:, None], 0.0), 0)
    out = summed / tl.sum(total * weight, 0)
    tl.store(out_ptr + row * HEAD_DIM + dims, out.to(out_ptr.dtype.element_ty), mask=dims < HEAD_DIM)
