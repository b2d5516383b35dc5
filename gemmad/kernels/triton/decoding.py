"""Between codes and numbers, a pass over memory each: rows of a weight, rows of the embedding, rows of inputs."""
# mypy: disable-error-code="no-untyped-def,untyped-decorator"
# ruff: noqa: N803, N806, PLR0913, PLR0917  (compile-time values are written in capitals; a kernel takes what it touches)

from __future__ import annotations

import torch
import triton
import triton.language as tl

from gemmad.kernels.matrices import BLOCK, FP8_LARGEST, CodedMatrix, codes_in_word
from gemmad.kernels.triton import launch
from gemmad.kernels.triton.codes import planes4, planes8, planes_fp8
from gemmad.kernels.triton.kvcodes import FP8, code_of
from gemmad.kernels.triton.launch import begin, wait_for_inputs

_BLOCKS = 8
"""Blocks of columns that one program decodes."""


def decode_rows(weight: CodedMatrix, dtype: torch.dtype) -> torch.Tensor:
    """The numbers of a weight [N, K], as `matrices.decode` defines them."""
    ids = torch.empty(0, dtype=torch.int64, device=weight.device)
    return _decode(weight, ids, weight.shape[0], dtype=dtype, scale=None)


def embed(weight: CodedMatrix, token_ids: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """Rows `token_ids` [T] of an embedding times `scale`, as `reference.coded.embed` defines it: [T, H]."""
    return _decode(weight, token_ids, len(token_ids), dtype=scale.dtype, scale=scale)


def _decode(
    weight: CodedMatrix, ids: torch.Tensor, rows: int, *, dtype: torch.dtype, scale: torch.Tensor | None
) -> torch.Tensor:
    k = weight.shape[1]
    out = torch.empty(rows, k, dtype=dtype, device=weight.device)
    offsets = weight.scales if weight.offsets is None else weight.offsets
    _decode_rows[(rows, triton.cdiv(k // BLOCK, _BLOCKS))](
        weight.codes, weight.scales, offsets, ids, ids if scale is None else scale, out,
        weight.codes.stride(0), weight.scales.stride(0), K=k, GROUP=weight.group, BLOCKS=_BLOCKS, KIND=weight.kind,
        PER=codes_in_word(weight.kind), OFFSETS=weight.offsets is not None, CHOSEN=scale is not None,
        NATIVE=weight.device.type == "cuda", **launch.options(weight.device, warps=4),
    )  # fmt: skip
    return out


def quantise_rows(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Inputs [T, K] → e4m3 [T, K] with each block's columns in the order of codes, and scales [T, 1] float32 such that
    a row's largest value is e4m3's largest."""
    tokens, k = x.shape
    assert x.stride(1) == 1, "a row lies in one piece"
    numbers = torch.empty(tokens, k, dtype=torch.float8_e4m3fn, device=x.device)
    scales = torch.empty(tokens, 1, dtype=torch.float32, device=x.device)
    words = numbers.view(torch.int16)
    _quantise_rows[(tokens,)](
        x, words, scales, x.stride(0), K=k, BLOCK=triton.next_power_of_2(k // 2), LARGEST=FP8_LARGEST,
        **launch.options(x.device, warps=8),
    )  # fmt: skip
    return numbers, scales


@triton.jit
def _decode_rows(
    codes, scales, offsets, ids, factor, out, stride, scale_stride,
    K: tl.constexpr, GROUP: tl.constexpr, BLOCKS: tl.constexpr, KIND: tl.constexpr, PER: tl.constexpr,
    OFFSETS: tl.constexpr, CHOSEN: tl.constexpr, NATIVE: tl.constexpr, OVERLAP: tl.constexpr,
):  # fmt: skip
    begin(OVERLAP)
    wait_for_inputs(OVERLAP)
    row = tl.program_id(0).to(tl.int64)
    source = tl.load(ids + row) if CHOSEN else row
    times = tl.load(factor).to(tl.float32) if CHOSEN else 1.0
    WIDE: tl.constexpr = 128 // PER
    word = tl.program_id(1) * (BLOCKS * WIDE) + tl.arange(0, BLOCKS * WIDE)
    inside = word < K // PER
    column = word // WIDE * 128 + word % WIDE
    packed = tl.load(codes + source * stride + word, mask=inside, other=0)
    scales += source
    offsets += source
    place = out + row * K
    if KIND == "int4":
        first, second, third, fourth = planes4(packed, NATIVE)
        _store(first, column, scales, offsets, scale_stride, place, inside, times, GROUP, OFFSETS, CHOSEN)
        _store(second, column + 32, scales, offsets, scale_stride, place, inside, times, GROUP, OFFSETS, CHOSEN)
        _store(third, column + 64, scales, offsets, scale_stride, place, inside, times, GROUP, OFFSETS, CHOSEN)
        _store(fourth, column + 96, scales, offsets, scale_stride, place, inside, times, GROUP, OFFSETS, CHOSEN)
    else:
        if KIND == "int8":
            low, high = planes8(packed, NATIVE)
        else:
            low, high = planes_fp8(packed, NATIVE)
        _store(low, column, scales, offsets, scale_stride, place, inside, times, GROUP, OFFSETS, CHOSEN)
        _store(high, column + 64, scales, offsets, scale_stride, place, inside, times, GROUP, OFFSETS, CHOSEN)


@triton.jit
def _store(
    worth, column, scales, offsets, scale_stride, place, inside, times,
    GROUP: tl.constexpr, OFFSETS: tl.constexpr, CHOSEN: tl.constexpr,
):  # fmt: skip
    group = column // GROUP * scale_stride
    numbers = worth.to(tl.float32) * tl.load(scales + group, mask=inside, other=0.0).to(tl.float32)
    if OFFSETS:
        numbers += tl.load(offsets + group, mask=inside, other=0.0).to(tl.float32)
    if CHOSEN:  # rounded where the reference's tensor is
        numbers = numbers.to(place.dtype.element_ty).to(tl.float32) * times
    tl.store(place + column, numbers.to(place.dtype.element_ty), mask=inside)


@triton.jit
def _quantise_rows(
    x, words, scales, stride, K: tl.constexpr, BLOCK: tl.constexpr, LARGEST: tl.constexpr, OVERLAP: tl.constexpr
):
    begin(OVERLAP)
    wait_for_inputs(OVERLAP)
    row = tl.program_id(0).to(tl.int64)
    word = tl.arange(0, BLOCK)
    inside = word < K // 2
    source = x + row * stride + word // 64 * 128 + word % 64
    low = tl.load(source, mask=inside, other=0.0).to(tl.float32)
    high = tl.load(source + 64, mask=inside, other=0.0).to(tl.float32)
    largest = tl.max(tl.maximum(tl.abs(low), tl.abs(high)), 0)
    scale = tl.maximum(largest / LARGEST, 1e-12)
    tl.store(scales + row, scale)
    first = code_of(low / scale, FP8).to(tl.int32) & 0xFF
    second = code_of(high / scale, FP8).to(tl.int32)
    tl.store(words + row * (K // 2) + word, (first | (second << 8)).to(tl.int16), mask=inside)
