"""Products with a coded weight: which kernel computes one, and what they share.

Up to eight tokens `words`, up to `MOST_TOKENS` `dot` here, whose codes become bfloat16 in registers; weights travel
once and small. More tokens are worth decoding the weight for, some rows at a time, so that what is decoded still lies
in the second cache when cuBLAS reads it; fp8 is multiplied as it is where the device can, with inputs that get a scale
for each token.
"""
# mypy: disable-error-code="no-untyped-def,untyped-decorator"
# ruff: noqa: N803, N806, PLR0913, PLR0917  (compile-time values are written in capitals; a kernel takes what it touches)

from __future__ import annotations

import functools
from types import ModuleType

import torch
import triton
import triton.language as tl

from gemmad.kernels.matrices import BLOCK, CodedMatrix, codes_in_word
from gemmad.kernels.triton import launch
from gemmad.kernels.triton.coded_tiles import CodedTile, tile_for
from gemmad.kernels.triton.codes import planes4, planes8, planes_fp8
from gemmad.kernels.triton.decoding import decode_rows, quantise_rows
from gemmad.kernels.triton.device import shared_memory_bytes
from gemmad.kernels.triton.launch import begin, wait_for_inputs
from gemmad.kernels.triton.parts import add_parts, gelu, gelu_gate, gelu_parts
from gemmad.logs import get_logger

words: ModuleType | None
try:
    from gemmad.kernels.triton import words
except (ImportError, AttributeError):  # Gluon is young: where its names have changed, `dot` does the work
    words = None

DECODED_BYTES = 64 << 20
"""Of a weight that are decoded at a time."""
_log = get_logger(__name__)

_FP8_CAPABILITY = (8, 9)
_SCALED_ROWS = 16
"""What the FP8 product counts its sizes in."""


def linear(x: torch.Tensor, weight: CodedMatrix) -> torch.Tensor:
    """`x·weightᵀ`, as `reference.coded.linear` defines it: x [T, K] bfloat16, weight [N, K] → [T, N]."""
    tile = _tile(x, weight)
    if tile is None:
        return _large(x, weight)
    out = torch.empty(len(x), weight.shape[0], dtype=x.dtype, device=x.device)
    if tile.splits == 1:
        _multiply_into(out[None], x, weight, tile)
        return out
    return add_parts(multiply_parts(x, weight, tile), out)


def gate_up_gelu(x: torch.Tensor, gate_up: CodedMatrix) -> torch.Tensor:
    """`gelu_tanh(x·gateᵀ) · (x·upᵀ)`, as `reference.coded.gate_up_gelu` defines it."""
    tile = _tile(x, gate_up, gated=True)
    if tile is None:
        return gelu_gate(_large(x, gate_up))
    if tile.splits > 1:
        return gelu_parts(multiply_parts(x, gate_up, tile), x.dtype)
    out = torch.empty(len(x), gate_up.shape[0] // 2, dtype=x.dtype, device=x.device)
    _multiply_into(out[None], x, gate_up, tile, gated=True)
    return out


def product(x: torch.Tensor, weight: CodedMatrix) -> torch.Tensor:
    """`x·weightᵀ` for a norm that adds up parts: [T, N] in x's dtype, or [splits, T, N] float32."""
    tile = _tile(x, weight)
    return linear(x, weight) if tile is None or tile.splits == 1 else multiply_parts(x, weight, tile)


def multiply_parts(x: torch.Tensor, weight: CodedMatrix, tile: CodedTile) -> torch.Tensor:
    """The sums that each of a tile's splits comes to, [splits, T, N] float32; added up they are the product."""
    parts = torch.empty(tile.splits, len(x), weight.shape[0], dtype=torch.float32, device=x.device)
    _multiply_into(parts, x, weight, tile)
    return parts


def can_use_words(device: torch.device) -> bool:
    """Whether the kernel for few tokens can be had there."""
    return words is not None and bool(words.can_multiply(device))


@functools.cache
def can_scale(device: torch.device) -> bool:
    """Whether the device multiplies e4m3 with a scale for each row: asked by a product, since torch's own answer has
    changed with its versions. The first call must not be under capture: whoever captures has run it all before."""
    if device.type != "cuda" or torch.cuda.get_device_capability(device) < _FP8_CAPABILITY:
        return False
    numbers = torch.ones(128, 128, device=device).to(torch.float8_e4m3fn)
    scales = torch.ones(128, 1, device=device)
    try:
        _scaled(numbers, numbers, scales, scales.t(), torch.bfloat16)
        torch.cuda.synchronize(device)
    except RuntimeError as error:
        _log.warning("fp8 is decoded before products of many tokens", reason=str(error).partition("\n")[0])
        return False
    return True


def _scaled(
    inputs: torch.Tensor, numbers: torch.Tensor, scales: torch.Tensor, row_scales: torch.Tensor, dtype: torch.dtype
) -> torch.Tensor:
    scaled: torch.Tensor = torch._scaled_mm(
        inputs, numbers.t(), scale_a=scales, scale_b=row_scales, out_dtype=dtype, use_fast_accum=True
    )
    return scaled


def _tile(x: torch.Tensor, weight: CodedMatrix, *, gated: bool = False) -> CodedTile | None:
    n, k = weight.shape
    return tile_for(
        weight.kind,
        n // 2 if gated else n,
        k,
        len(x),
        gated=gated,
        words=can_use_words(x.device),
        shared_bytes=shared_memory_bytes(x.device),
    )


def _large(x: torch.Tensor, weight: CodedMatrix) -> torch.Tensor:
    """The product of many tokens."""
    rows, k = weight.shape
    if weight.kind == "fp8" and can_scale(x.device) and rows % _SCALED_ROWS == 0:
        inputs, scales = quantise_rows(x)
        return _scaled(inputs, weight.codes.view(torch.float8_e4m3fn), scales, weight.scales, x.dtype)
    out = torch.empty(len(x), rows, dtype=x.dtype, device=x.device)
    together = max(BLOCK, DECODED_BYTES // (k * x.element_size()) // BLOCK * BLOCK)
    for start in range(0, rows, together):
        part = decode_rows(weight.rows(start, start + together), x.dtype)
        torch.mm(x, part.t(), out=out[:, start : start + together])
    return out


def _multiply_into(
    out: torch.Tensor, x: torch.Tensor, weight: CodedMatrix, tile: CodedTile, *, gated: bool = False
) -> None:
    if tile.loop == "words":
        assert words is not None, "asked before"
        words.multiply_into(out, x, weight, tile, gated=gated)
    else:
        dot_into(out, x, weight, tile, gated=gated)


def dot_into(out: torch.Tensor, x: torch.Tensor, weight: CodedMatrix, tile: CodedTile, *, gated: bool = False) -> None:
    """Fill `out` [splits, T, N] with what each split's share of the columns comes to: x [T, K], weight [N, K], or
    [2·N, K] `gated`, whose halves meet as in `gate_up_gelu`."""
    splits, tokens, n = out.shape
    k = weight.shape[1]
    share = k // splits
    assert share * splits == k, "shares are equal"
    assert share % tile.columns == 0, "turns are whole"
    assert x.stride(1) == out.stride(2) == 1, "an activation's row lies in one piece"
    grouped = weight.kind == "int4"
    assert tile.columns == BLOCK or not grouped, "a turn of int4 is a block"
    rows = tile.rows
    _dot[(triton.cdiv(n, rows), splits)](
        x, weight.codes, weight.scales, weight.scales if weight.offsets is None else weight.offsets, out, tokens,
        x.stride(0), out.stride(1), out.stride(0),
        N=n, K=k, WIDTH=max(8, triton.next_power_of_2(tokens)), ROWS=rows, COLUMNS=tile.columns,
        GROUP=weight.group if grouped else BLOCK, SHARE=share, STAGES=tile.depth, GATED=gated, KIND=weight.kind,
        PER=codes_in_word(weight.kind), OFFSETS=weight.offsets is not None, NATIVE=x.is_cuda,
        **launch.options(x.device, warps=tile.warps, stages=tile.depth),
    )  # fmt: skip


@triton.jit(do_not_specialize=["tokens"])
def _dot(
    x, codes, scales, offsets, out, tokens, x_stride, out_stride, part_stride,
    N: tl.constexpr, K: tl.constexpr, WIDTH: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
    GROUP: tl.constexpr, SHARE: tl.constexpr, STAGES: tl.constexpr, GATED: tl.constexpr, KIND: tl.constexpr,
    PER: tl.constexpr, OFFSETS: tl.constexpr, NATIVE: tl.constexpr, OVERLAP: tl.constexpr,
):  # fmt: skip
    """Weights on the left, as in `gemv`; each plane of a turn's words meets the columns that it stands for."""
    begin(OVERLAP)
    wait_for_inputs(OVERLAP)
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    start = tl.program_id(1) * SHARE
    token = tl.arange(0, WIDTH)
    read_row = tl.minimum(row, N - 1)
    WIDE: tl.constexpr = 128 // PER
    word = tl.arange(0, COLUMNS // PER)
    first = codes + read_row[:, None] * (K // PER) + start // PER + word[None, :]
    column = start + word // WIDE * 128 + word % WIDE
    source = x + tl.minimum(token, tokens - 1)[None, :] * x_stride + column[:, None]
    total = tl.zeros((ROWS, WIDTH), tl.float32)
    beside = tl.zeros((ROWS, WIDTH), tl.float32)
    ALL: tl.constexpr = 2 * N if GATED else N
    for turn in tl.range(0, SHARE, COLUMNS, num_stages=STAGES):
        packed = tl.load(first + turn // PER)
        inputs = source + turn
        if KIND == "int4":
            group = (start + turn) // GROUP * ALL + read_row
            total = _add_int4(packed, inputs, scales + group, offsets + group, total, GROUP, ALL, OFFSETS, NATIVE)
            if GATED:
                other = tl.load(first + N * (K // PER) + turn // PER)
                group += N
                beside = _add_int4(other, inputs, scales + group, offsets + group, beside, GROUP, ALL, OFFSETS, NATIVE)
        else:
            total = _add_wide(packed, inputs, total, KIND, NATIVE)
            if GATED:
                other = tl.load(first + N * (K // PER) + turn // PER)
                beside = _add_wide(other, inputs, beside, KIND, NATIVE)
    if KIND != "int4":
        total = total * tl.load(scales + read_row)[:, None]
        if GATED:
            beside = beside * tl.load(scales + N + read_row)[:, None]
    if GATED:
        total = gelu(total) * beside
    inside = (token < tokens)[None, :] & (row < N)[:, None]
    place = out + tl.program_id(1).to(tl.int64) * part_stride
    tl.store(place + token[None, :] * out_stride + row[:, None], total, mask=inside)


@triton.jit
def _add_wide(packed, inputs, total, KIND: tl.constexpr, NATIVE: tl.constexpr):
    if KIND == "int8":
        low, high = planes8(packed, NATIVE)
    else:
        low, high = planes_fp8(packed, NATIVE)
    total = tl.dot(low, tl.load(inputs), total)
    return tl.dot(high, tl.load(inputs + 64), total)


@triton.jit
def _add_int4(
    packed, inputs, scales, offsets, total,
    GROUP: tl.constexpr, ALL: tl.constexpr, OFFSETS: tl.constexpr, NATIVE: tl.constexpr,
):  # fmt: skip
    """One block; as many planes as share a scale are summed up before it."""
    a, b, c, d = planes4(packed, NATIVE)
    first = tl.load(inputs)
    second = tl.load(inputs + 32)
    third = tl.load(inputs + 64)
    fourth = tl.load(inputs + 96)
    if GROUP >= 128:
        part = tl.dot(a, first)
        part = tl.dot(b, second, part)
        part = tl.dot(c, third, part)
        total += tl.dot(d, fourth, part) * tl.load(scales).to(tl.float32)[:, None]
    elif GROUP == 64:
        total += tl.dot(b, second, tl.dot(a, first)) * tl.load(scales).to(tl.float32)[:, None]
        total += tl.dot(d, fourth, tl.dot(c, third)) * tl.load(scales + ALL).to(tl.float32)[:, None]
    else:
        total += tl.dot(a, first) * tl.load(scales).to(tl.float32)[:, None]
        total += tl.dot(b, second) * tl.load(scales + ALL).to(tl.float32)[:, None]
        total += tl.dot(c, third) * tl.load(scales + 2 * ALL).to(tl.float32)[:, None]
        total += tl.dot(d, fourth) * tl.load(scales + 3 * ALL).to(tl.float32)[:, None]
    if OFFSETS:
        if GROUP >= 128:
            total += _offset(offsets, first + 0.0, second, third, fourth)
        elif GROUP == 64:
            total += _offset(offsets, first, second, first * 0.0, first * 0.0)
            total += _offset(offsets + ALL, third, fourth, first * 0.0, first * 0.0)
        else:
            none = first * 0.0
            total += _offset(offsets, first, none, none, none)
            total += _offset(offsets + ALL, second, none, none, none)
            total += _offset(offsets + 2 * ALL, third, none, none, none)
            total += _offset(offsets + 3 * ALL, fourth, none, none, none)
    return total


@triton.jit
def _offset(offsets, a, b, c, d):
    """What a group's offset adds: itself times the sum of the group's inputs."""
    whole = a.to(tl.float32) + b.to(tl.float32) + c.to(tl.float32) + d.to(tl.float32)
    return tl.load(offsets).to(tl.float32)[:, None] * tl.sum(whole, 0)[None, :]
