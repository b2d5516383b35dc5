"""Products with a coded weight for up to eight tokens, in Gluon, which can say where each number of a tile lies.

A thread reads eight words of a row at once, straight into the registers where tensor cores want the numbers that they
become: no shared memory, no barrier, and about one instruction for each number. Blocks of columns that come next are
read while this one is used; programs share out columns where rows are too few for all of the device.

int4 enters the product as 128 + q (see `codes`); what that is too much is 136 times the sum of the inputs, which the
tensor cores count once for all rows.
"""
# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator, name-defined, assignment, misc"
# ruff: noqa: RUF005, N803, N806, PLR0913, PLR0915, PLR0917  (a kernel takes what it touches; capitals are constants; Gluon
# adds tuples up and does not unpack them)

from __future__ import annotations

import functools

import torch
import triton
from triton.experimental import gluon
from triton.experimental.gluon import language as gl
from triton.experimental.gluon.language.nvidia.ampere import mma_v2

from gemmad.kernels.matrices import BLOCK, CodedMatrix, codes_in_word
from gemmad.kernels.triton import codes
from gemmad.kernels.triton.coded_tiles import CodedTile

WIDTH = 8
"""Tokens of a tile; fewer are repeated, and not stored."""
_AMPERE = (8, 0)

_INT4 = gl.constexpr(codes.INT4_BIASED)
_INT8 = gl.constexpr(codes.INT8)
_FP8 = gl.constexpr(codes.FP8)


@functools.cache
def can_multiply(device: torch.device) -> bool:
    """Whether the device has the tensor cores' instruction."""
    return device.type == "cuda" and torch.cuda.get_device_capability(device) >= _AMPERE


def multiply_into(out: torch.Tensor, x: torch.Tensor, weight: CodedMatrix, tile: CodedTile, *, gated: bool) -> None:
    """Fill `out` [splits, T, N] with what each split's share of the columns comes to: x [T, K], T ≤ 8, weight [N, K],
    or [2·N, K] `gated`, whose halves meet as in `gate_up_gelu`."""
    splits, tokens, n = out.shape
    rows, k = weight.shape
    share = k // splits
    assert share * splits == k, "shares are equal"
    assert share % (BLOCK * tile.depth) == 0, "turns are whole"
    assert x.stride(1) == out.stride(2) == 1, "an activation's row lies in one piece"
    assert rows * k // codes_in_word(weight.kind) < 1 << 31, "places are counted in 32 bits"
    programs = triton.cdiv(n, tile.rows // 2 if gated else tile.rows), splits
    _multiply[programs](
        x, weight.codes, weight.scales, weight.scales if weight.offsets is None else weight.offsets, out, tokens,
        x.stride(0), out.stride(1), out.stride(0),
        N=n, K=k, ROWS=tile.rows, WARPS=tile.warps, GROUP=weight.group, SHARE=share, GATED=gated, KIND=weight.kind,
        OFFSETS=weight.offsets is not None, DEPTH=tile.depth, num_warps=tile.warps,
    )  # fmt: skip


@gluon.jit(do_not_specialize=["tokens"])
def _multiply(
    x, codes_ptr, scales_ptr, offsets_ptr, out, tokens, x_stride, out_stride, part_stride,
    N: gl.constexpr, K: gl.constexpr, ROWS: gl.constexpr, WARPS: gl.constexpr, GROUP: gl.constexpr,
    SHARE: gl.constexpr, GATED: gl.constexpr, KIND: gl.constexpr, OFFSETS: gl.constexpr, DEPTH: gl.constexpr,
):  # fmt: skip
    SUMS: gl.constexpr = gl.NVMMADistributedLayout([2, 0], [WARPS, 1], [16, 8])
    LEFT: gl.constexpr = gl.DotOperandLayout(0, SUMS, 8)
    RIGHT: gl.constexpr = gl.DotOperandLayout(1, SUMS, 8)
    PER: gl.constexpr = 4 if KIND == "int4" else 2
    WORDS: gl.constexpr = 128 // PER
    COUNT: gl.constexpr = SHARE // 128
    HALF: gl.constexpr = ROWS // 2 if GATED else ROWS
    ALL: gl.constexpr = 2 * N if GATED else N
    first = gl.program_id(0) * HALF
    start = gl.program_id(1) * SHARE
    row = gl.arange(0, ROWS, gl.SliceLayout(1, LEFT))
    row = gl.minimum(first + row % HALF, N - 1) + row // HALF * N  # past the end the last one again, not stored
    word = gl.arange(0, WORDS, gl.SliceLayout(0, LEFT))
    place = codes_ptr + (row[:, None] * (K // PER) + word[None, :]) + start // PER
    token = gl.minimum(gl.arange(0, 8, gl.SliceLayout(0, RIGHT)), tokens - 1)
    column = gl.arange(0, WORDS, gl.SliceLayout(1, RIGHT))
    source = x + (column[:, None] + token[None, :] * x_stride) + start
    sum_row = gl.arange(0, ROWS, gl.SliceLayout(1, SUMS))
    sum_row = gl.minimum(first + sum_row % HALF, N - 1) + sum_row // HALF * N
    zero = gl.full([ROWS, 8], 0.0, gl.float32, SUMS)
    bias = gl.full([ROWS, WORDS], -136.0, gl.bfloat16, LEFT)
    total = zero
    beside = zero
    coming = ()
    for ahead in gl.static_range(DEPTH):
        coming = coming + (gl.load(place + ahead * WORDS),)
    for turn in range(0, COUNT, DEPTH):
        for step in gl.static_range(DEPTH):
            block = turn + step
            words = coming[0]
            coming = coming[1:] + (gl.load(place + gl.minimum(block + DEPTH, COUNT - 1) * WORDS),)
            inputs = source + block * 128
            if KIND == "int4":
                scale = scales_ptr + sum_row + (start + block * 128) // GROUP * ALL
                offset = offsets_ptr + sum_row + (start + block * 128) // GROUP * ALL
                total = _add_int4(words, inputs, scale, offset, total, zero, bias, GROUP, ALL, OFFSETS)
            else:
                total, beside = _add_wide(words, inputs, total, beside, KIND)
    if KIND != "int4":
        total = (total + beside) * gl.load(scales_ptr + sum_row)[:, None]
    if GATED:
        halves = total.reshape([2, HALF, 8]).permute((1, 2, 0))
        PAIRS: gl.constexpr = gl.BlockedLayout([1, 1, 2], [4, 8, 1], [WARPS, 1, 1], [2, 1, 0])
        gate, up = gl.convert_layout(halves, PAIRS).split()
        gated = gate / (1.0 + gl.exp(-1.5957691216057308 * (gate + 0.044715 * gate * gate * gate))) * up
        OUT: gl.constexpr = gated.type.layout
        here = first + gl.arange(0, HALF, gl.SliceLayout(1, OUT))
        whose = gl.arange(0, 8, gl.SliceLayout(0, OUT))
        inside = (here < N)[:, None] & (whose < tokens)[None, :]
        place_out = out + (here[:, None] + whose[None, :] * out_stride)
        gl.store(place_out, gated.to(out.dtype.element_ty), mask=inside)
    else:
        here = first + gl.arange(0, ROWS, gl.SliceLayout(1, SUMS))
        whose = gl.arange(0, 8, gl.SliceLayout(0, SUMS))
        inside = (here < N)[:, None] & (whose < tokens)[None, :]
        place_out = out + (here[:, None] + whose[None, :] * out_stride) + gl.program_id(1) * part_stride
        gl.store(place_out, total.to(out.dtype.element_ty), mask=inside)


@gluon.jit
def _add_int4(
    words, inputs, scale, offset, total, zero, bias, GROUP: gl.constexpr, ALL: gl.constexpr, OFFSETS: gl.constexpr
):
    """One block of int4: planes meet their 32 inputs each, and as many as share a scale are summed up before it."""
    first, second, third, fourth = gl.inline_asm_elementwise(
        _INT4, "=r,=r,=r,=r,r", [words], dtype=(gl.bfloat16, gl.bfloat16, gl.bfloat16, gl.bfloat16),
        is_pure=True, pack=2,
    )  # fmt: skip
    planes = (first, second, third, fourth)
    here = (gl.load(inputs), gl.load(inputs + 32), gl.load(inputs + 64), gl.load(inputs + 96))
    TOGETHER: gl.constexpr = GROUP // 32 if GROUP < 128 else 4
    for group in gl.static_range(4 // TOGETHER):
        less = zero
        for plane in gl.static_range(TOGETHER):
            less = mma_v2(bias, here[group * TOGETHER + plane], less)
        more = zero
        product = less
        for plane in gl.static_range(TOGETHER):  # two sums, so that no product waits for the one before it
            if plane % 2 == 0:
                product = mma_v2(planes[group * TOGETHER + plane], here[group * TOGETHER + plane], product)
            else:
                more = mma_v2(planes[group * TOGETHER + plane], here[group * TOGETHER + plane], more)
        total = total + (product + more) * gl.load(scale + group * ALL).to(gl.float32)[:, None]
        if OFFSETS:
            total = total + less * (gl.load(offset + group * ALL).to(gl.float32) * (-1.0 / 136.0))[:, None]
    return total


@gluon.jit
def _add_wide(words, inputs, total, beside, KIND: gl.constexpr):
    """One block of int8 or fp8, each plane into sums of its own."""
    if KIND == "int8":
        first, second = gl.inline_asm_elementwise(
            _INT8, "=r,=r,r", [words], dtype=(gl.bfloat16, gl.bfloat16), is_pure=True, pack=2
        )
    else:
        first, second = gl.inline_asm_elementwise(
            _FP8, "=r,=r,r", [words], dtype=(gl.bfloat16, gl.bfloat16), is_pure=True, pack=2
        )
    return mma_v2(first, gl.load(inputs), total), mma_v2(second, gl.load(inputs + 64), beside)
