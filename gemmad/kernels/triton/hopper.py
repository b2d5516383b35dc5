"""`prefill` in instructions that only Hopper has, written in Gluon, where Triton's own pipelining falls short.

Blocks of keys travel by the tensor memory accelerator into two buffers in turn; products are asynchronous, and while
one block's values are being summed up the next block's scores become weights (FlashAttention-3's overlap within a
warpgroup, https://arxiv.org/abs/2407.08608). Turn t of a program:

    calls for the keys of block t + 1 and the values of block t, into the buffers that turn t - 1 was the last to read;
    starts the product of its queries with the keys of block t, and shrinks the sum of values under it;
    starts the product of the last turn's weights with the values of block t - 1, and makes the next weights under it.

Which program does what, and what is masked, is as in `prefill`. Rows of a block past the end of a context are read and
get no weight: pages hold numbers only. Pages must hold whole blocks of keys.
"""
# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator, name-defined"
# ruff: noqa: N803, N806, PLR0913, PLR0915, PLR0917  (a kernel takes what it touches; capitals are constants)

from __future__ import annotations

import functools

import torch
from triton.experimental import gluon
from triton.experimental.gluon import language as gl
from triton.experimental.gluon.language.nvidia.hopper import (
    fence_async_shared,
    mbarrier,
    tma,
    warpgroup_mma,
    warpgroup_mma_wait,
)
from triton.experimental.gluon.nvidia.hopper import TensorDescriptor

from gemmad.kernels.batch import AttentionBatch
from gemmad.kernels.pages import Pages
from gemmad.kernels.triton.programs import first_programs

LOG2E = 1.4426950408889634
KEYS = 64
"""Keys of a block."""
ROWS = 128
"""Rows of a program, queries times heads of a group: 64 for each of its warpgroups."""
SHORT_ROWS = 64
_SHORT_PROGRAMS = 66
"""Programs of all rows below which half as many are better: half an H200's multiprocessors."""
_HOPPER = (9, 0)

# Triton 3.6 has other names for two of these.
_call_in = tma.async_load if hasattr(tma, "async_load") else tma.async_copy_global_to_shared
_meet = gl.barrier if hasattr(gl, "barrier") else gl.thread_barrier


def can_prefill(q: torch.Tensor, pages: Pages) -> bool:
    """Whether this kernel serves such tensors on their device. Codes it never does: from the memory accelerator its
    products take keys and values as they are."""
    heads, head_dim = q.shape[1:]
    _, page_tokens, kv_heads, _ = pages.keys.shape
    group = heads // kv_heads
    return (
        q.dtype == pages.keys.dtype == torch.bfloat16
        and head_dim in {64, 128, 256}
        and group in {1, 2, 4, 8, 16}
        and page_tokens % KEYS == 0
        and _plane(pages.keys) is not None
        and _is_hopper(q.device)
    )


def prefill(
    q: torch.Tensor,
    pages: Pages,
    batch: AttentionBatch,
    *,
    scale: float,
    rows: int | None = None,
    first: torch.Tensor | None = None,
) -> torch.Tensor:
    """q [T, H, D] → [T, H, D]; equal to `reference.attention.paged_attention`.

    `rows`: of a program; None takes what suits the batch. `first`: `first_programs` for `queries`; None: every sequence
    is computed.
    """
    tokens, heads, head_dim = q.shape
    _, page_tokens, kv_heads, _ = pages.keys.shape
    group = heads // kv_heads
    sequences = batch.context_lens.shape[0]
    rows = rows or program_rows(q)
    first = first_programs(batch, rows // group) if first is None else first
    plane = _plane(pages.keys)
    assert plane is not None, "asked before"
    _, page_rows, head_rows, head_columns = plane
    out = torch.empty_like(q)
    _prefill[(kv_heads, tokens // (rows // group) + sequences)](
        q, _descriptor(pages.keys), _descriptor(pages.values), out,
        batch.page_table, first, batch.query_starts, batch.positions, batch.reach, batch.columns, sequences,
        scale * LOG2E, page_rows, head_rows, head_columns,
        HEADS=heads, GROUP=group, HEAD_DIM=head_dim, BLOCK_Q=rows // group, BLOCK_N=KEYS, PAGE=page_tokens,
        WINDOW=batch.window or 0, WARPS=rows // 16, num_warps=rows // 16,
        enable_fp_fusion=True,
    )  # fmt: skip
    return out


def program_rows(q: torch.Tensor) -> int:
    """Rows of a program's tile, queries times the heads that share one of keys, that suit a batch q [T, H, D]."""
    return SHORT_ROWS if q.shape[0] * q.shape[1] // ROWS < _SHORT_PROGRAMS else ROWS


@functools.cache
def _is_hopper(device: torch.device) -> bool:
    return device.type == "cuda" and torch.cuda.get_device_capability(device) == _HOPPER


def _plane(pages: torch.Tensor) -> tuple[int, int, int, int] | None:
    """Pages as one table of rows: its width, and how many rows a page and a head are apart, and columns a head.

    A row holds a token's heads, or a head's token, whichever lies in one piece; None where neither does.
    """
    _, page_tokens, kv_heads, head_dim = pages.shape
    stride = pages.stride()
    if stride == (page_tokens * kv_heads * head_dim, kv_heads * head_dim, head_dim, 1):
        return kv_heads * head_dim, page_tokens, 0, head_dim
    if stride == (page_tokens * kv_heads * head_dim, head_dim, page_tokens * head_dim, 1):
        return head_dim, page_tokens * kv_heads, page_tokens, 0
    return None


def _descriptor(pages: torch.Tensor) -> TensorDescriptor:
    plane = _plane(pages)
    assert plane is not None, "asked before"
    width = plane[0]
    shape = [pages.numel() // width, width]
    block = [KEYS, pages.shape[3]]
    table = pages.as_strided(shape, (width, 1))
    return TensorDescriptor(table, shape, [width, 1], block, gl.NVMMASharedLayout.get_default_for(block, gl.bfloat16))


@gluon.jit(do_not_specialize=["sequences"])
def _prefill(
    q_ptr, k_plane, v_plane, out_ptr,
    table_ptr, first_ptr, starts_ptr, positions_ptr, reach_ptr, columns_ptr, sequences, scale,
    page_rows, head_rows, head_columns,
    HEADS: gl.constexpr, GROUP: gl.constexpr, HEAD_DIM: gl.constexpr, BLOCK_Q: gl.constexpr, BLOCK_N: gl.constexpr,
    PAGE: gl.constexpr, WINDOW: gl.constexpr, WARPS: gl.constexpr,
):  # fmt: skip
    BLOCK_M: gl.constexpr = BLOCK_Q * GROUP
    SCORES: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [WARPS, 1], [16, BLOCK_N, 16])
    SUMS: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [WARPS, 1], [16, HEAD_DIM, 16])
    LANES: gl.constexpr = HEAD_DIM // 8 if HEAD_DIM < 256 else 32
    FLAT: gl.constexpr = gl.BlockedLayout([1, 8], [32 // LANES, LANES], [WARPS, 1], [1, 0])

    head = gl.program_id(0)
    program = gl.load(first_ptr + sequences) - 1 - gl.program_id(1)
    if program < 0:
        return
    sequence = _find_sequence(first_ptr, sequences, program)
    stop = gl.load(starts_ptr + sequence + 1)
    first_query = gl.load(starts_ptr + sequence) + (program - gl.load(first_ptr + sequence)) * BLOCK_Q
    columns = gl.load(columns_ptr)

    flat_row = gl.arange(0, BLOCK_M, gl.SliceLayout(1, FLAT))
    flat_query = first_query + flat_row // GROUP
    flat_place = (flat_query * HEADS + head * GROUP + flat_row % GROUP)[:, None] * HEAD_DIM
    flat_place = flat_place + gl.arange(0, HEAD_DIM, gl.SliceLayout(0, FLAT))[None, :]
    flat_live = (flat_query < stop)[:, None]
    q_tile = gl.allocate_shared_memory(
        gl.bfloat16, [BLOCK_M, HEAD_DIM], gl.NVMMASharedLayout.get_default_for([BLOCK_M, HEAD_DIM], gl.bfloat16)
    )
    q_tile.store(gl.load(q_ptr + flat_place, mask=flat_live, other=0.0))
    k_tiles = gl.allocate_shared_memory(gl.bfloat16, [2, BLOCK_N, HEAD_DIM], k_plane.layout)
    v_tiles = gl.allocate_shared_memory(gl.bfloat16, [2, BLOCK_N, HEAD_DIM], v_plane.layout)
    bars = gl.allocate_shared_memory(gl.int64, [3, 1], mbarrier.MBarrierLayout())
    for index in gl.static_range(3):
        mbarrier.init(bars.index(index), count=1)
    fence_async_shared()
    _meet()

    # Keys [begin, end) are seen by some row, [clear_begin, clear_end) by every one: reach never falls along a chunk.
    row = gl.arange(0, BLOCK_M, gl.SliceLayout(1, SCORES))
    query = first_query + row // GROUP
    reach = gl.load(reach_ptr + query, mask=query < stop, other=-1).to(gl.int32)
    first_position = gl.load(positions_ptr + first_query).to(gl.int32)
    floor = first_position + row // GROUP - WINDOW
    end = gl.max(reach, 0) + 1
    clear_end = gl.load(reach_ptr + first_query).to(gl.int32) + 1
    begin = 0
    shift = 0
    if WINDOW > 0:
        lowest = gl.maximum(first_position - WINDOW + 1, 0)
        begin = lowest // BLOCK_N * BLOCK_N
        shift = (lowest // PAGE) % columns - lowest // PAGE
    count = (end - begin + BLOCK_N - 1) // BLOCK_N
    # Blocks [left, right) need no mask; the first is always masked.
    left = 1
    if WINDOW > 0:
        clear_begin = first_position + gl.minimum(BLOCK_Q, stop - first_query) - WINDOW
        left = gl.minimum(gl.maximum((clear_begin - begin + BLOCK_N - 1) // BLOCK_N, 1), count)
    right = gl.maximum((clear_end - begin) // BLOCK_N, left)

    row_table = table_ptr + sequence * columns
    first_row = head * head_rows
    column = head * head_columns
    size: gl.constexpr = k_plane.block_type.nbytes
    here = _find_row(row_table, begin, shift, columns, page_rows, first_row, PAGE, WINDOW)
    mbarrier.expect(bars.index(2), size)
    _call_in(k_plane, [here, column], bars.index(2), k_tiles.index(0))
    # The last block is called for twice, so that every turn calls for as much.
    following = begin + gl.minimum(1, count - 1) * BLOCK_N
    after = _find_row(row_table, following, shift, columns, page_rows, first_row, PAGE, WINDOW)
    mbarrier.expect(bars.index(0), 2 * size)
    _call_in(k_plane, [after, column], bars.index(0), k_tiles.index(1))
    _call_in(v_plane, [here, column], bars.index(0), v_tiles.index(0))
    here = after

    nothing = gl.full([BLOCK_M, BLOCK_N], 0.0, gl.float32, SCORES)
    best = gl.full([BLOCK_M], -1.0e30, gl.float32, gl.SliceLayout(1, SCORES))
    total = gl.full([BLOCK_M], 0.0, gl.float32, gl.SliceLayout(1, SCORES))
    mixed = gl.full([BLOCK_M, HEAD_DIM], 0.0, gl.float32, SUMS)
    mbarrier.wait(bars.index(2), 0)
    scores = warpgroup_mma(q_tile, k_tiles.index(0).permute((1, 0)), nothing, use_acc=False, is_async=True)
    scores = warpgroup_mma_wait(0, [scores])
    weights, best, total, decay = _weigh(scores, best, total, begin, reach, floor, scale, BLOCK_N, WINDOW, True, SCORES)
    for part in gl.static_range(3):
        if part == 0:
            first = 1
            until = left
        elif part == 1:
            first = left
            until = right
        else:
            first = right
            until = count
        for turn in range(first, until):
            block = begin + turn * BLOCK_N
            following = begin + gl.minimum(turn + 1, count - 1) * BLOCK_N
            after = _find_row(row_table, following, shift, columns, page_rows, first_row, PAGE, WINDOW)
            _meet()  # both warpgroups have read what now goes
            bar = bars.index(turn % 2)
            mbarrier.expect(bar, 2 * size)
            _call_in(k_plane, [after, column], bar, k_tiles.index((turn + 1) % 2))
            _call_in(v_plane, [here, column], bar, v_tiles.index(turn % 2))
            here = after
            mbarrier.wait(bars.index((turn - 1) % 2), ((turn - 1) // 2) & 1)
            keys = k_tiles.index(turn % 2).permute((1, 0))
            scores = warpgroup_mma(q_tile, keys, nothing, use_acc=False, is_async=True)
            mixed = mixed * gl.convert_layout(decay, gl.SliceLayout(1, SUMS))[:, None]
            shares = gl.convert_layout(weights, gl.DotOperandLayout(0, SUMS, 2))
            mixed = warpgroup_mma(shares, v_tiles.index((turn - 1) % 2), mixed, is_async=True)
            scores = warpgroup_mma_wait(1, [scores])
            weights, best, total, decay = _weigh(
                scores, best, total, block, reach, floor, scale, BLOCK_N, WINDOW, part != 1, SCORES
            )
            mixed = warpgroup_mma_wait(0, [mixed])
    mbarrier.wait(bars.index((count - 1) % 2), ((count - 1) // 2) & 1)
    mixed = mixed * gl.convert_layout(decay, gl.SliceLayout(1, SUMS))[:, None]
    shares = gl.convert_layout(weights, gl.DotOperandLayout(0, SUMS, 2))
    mixed = warpgroup_mma(shares, v_tiles.index((count - 1) % 2), mixed, is_async=True)
    mixed = warpgroup_mma_wait(0, [mixed])
    share = gl.where(total > 0.0, 1.0 / total, 0.0)
    mixed = mixed * gl.convert_layout(share, gl.SliceLayout(1, SUMS))[:, None]
    _meet()
    for index in gl.static_range(3):
        mbarrier.invalidate(bars.index(index))
    q_tile.store(mixed.to(gl.bfloat16))
    gl.store(out_ptr + flat_place, q_tile.load(FLAT), mask=flat_live)


@gluon.jit
def _find_sequence(first_ptr, sequences, program):
    """The last sequence whose first program is not after this one: the one that owns it."""
    low = 0
    high = sequences
    while low < high:
        middle = (low + high) // 2
        if gl.load(first_ptr + middle) <= program:
            low = middle + 1
        else:
            high = middle
    return low - 1


@gluon.jit
def _find_row(
    row_table, block, shift, columns, page_rows, first_row, PAGE: gl.constexpr, WINDOW: gl.constexpr
):  # fmt: skip
    """Where in the table of rows a block of keys begins. `shift` leads from a page's index to its column, but for one
    turn of the ring."""
    column = block // PAGE + shift
    if WINDOW > 0:
        column = gl.where(column >= columns, column - columns, column)
    return gl.load(row_table + column) * page_rows + first_row + block % PAGE


@gluon.jit
def _weigh(
    scores, best, total, block, reach, floor, scale,
    BLOCK_N: gl.constexpr, WINDOW: gl.constexpr, MASKED: gl.constexpr, SCORES: gl.constexpr,
):  # fmt: skip
    """A block's weights in bfloat16, each row's largest score and sum of weights so far, and by what earlier sums
    shrink."""
    if MASKED:
        key = (block + gl.arange(0, BLOCK_N, gl.SliceLayout(0, SCORES)))[None, :]
        seen = key <= reach[:, None]
        if WINDOW > 0:
            seen = seen & (key > floor[:, None])
        scores = gl.where(seen, scores, float("-inf"))
    new_best = gl.maximum(best, gl.max(scores, 1))
    weights = gl.exp2(scores * scale - (new_best * scale)[:, None])
    decay = gl.exp2((best - new_best) * scale)
    total = total * decay + gl.sum(weights, 1)
    return weights.to(gl.bfloat16), new_best, total, decay
