"""What follows a product that came in parts or in halves: sums of parts, and the gate."""
# mypy: disable-error-code="no-untyped-def,untyped-decorator"
# ruff: noqa: N803, PLR0913, PLR0917  (compile-time values are written in capitals; a kernel takes what it touches)

from __future__ import annotations

import torch
import triton
import triton.language as tl

from gemmad.kernels.triton import launch
from gemmad.kernels.triton.launch import begin, wait_for_inputs
from gemmad.kernels.triton.norms import sum_parts


def add_parts(parts: torch.Tensor, out: torch.Tensor) -> torch.Tensor:
    """Sum over the first dimension, in order: parts [P, T, N] float32 → `out` [T, N], rounded to its dtype."""
    count, tokens, n = parts.shape
    block = 1024
    _add_parts[(tokens, triton.cdiv(n, block))](
        parts, out, parts.stride(0), parts.stride(1), out.stride(0), n,
        PARTS=count, BLOCK=block, **launch.options(out.device, warps=4),
    )  # fmt: skip
    return out


def gelu_gate(halves: torch.Tensor, *, out: torch.Tensor | None = None) -> torch.Tensor:
    """`gelu_tanh(first half) · second half` of each row: [T, 2·N] → [T, N]."""
    tokens, n = halves.shape[0], halves.shape[1] // 2
    out = torch.empty(tokens, n, dtype=halves.dtype, device=halves.device) if out is None else out
    block = 1024
    _gelu_gate[(tokens, triton.cdiv(n, block))](
        halves, out, halves.stride(0), out.stride(0), n, BLOCK=block, **launch.options(halves.device, warps=4)
    )  # fmt: skip
    return out


def gelu_parts(parts: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """`gelu_tanh(first half) · second half` of the sum of parts [P, T, 2·N] float32, rounded once: [T, N]."""
    count, tokens, width = parts.shape
    out = torch.empty(tokens, width // 2, dtype=dtype, device=parts.device)
    block = 1024
    _gelu_parts[(tokens, triton.cdiv(width // 2, block))](
        parts, out, parts.stride(0), parts.stride(1), out.stride(0), width // 2,
        PARTS=count, BLOCK=block, **launch.options(out.device, warps=4),
    )  # fmt: skip
    return out


@triton.jit
def _add_parts(
    parts, out, part_stride, stride, out_stride, n, PARTS: tl.constexpr, BLOCK: tl.constexpr, OVERLAP: tl.constexpr
):
    begin(OVERLAP)
    wait_for_inputs(OVERLAP)
    row = tl.program_id(0).to(tl.int64)
    columns = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = columns < n
    total = sum_parts(parts + row * stride + columns, inside, part_stride, PARTS)
    tl.store(out + row * out_stride + columns, total, mask=inside)


@triton.jit
def _gelu_gate(halves, out, stride, out_stride, n, BLOCK: tl.constexpr, OVERLAP: tl.constexpr):
    begin(OVERLAP)
    wait_for_inputs(OVERLAP)
    row = tl.program_id(0).to(tl.int64)
    columns = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = columns < n
    gate = tl.load(halves + row * stride + columns, mask=inside, other=0.0)
    up = tl.load(halves + row * stride + n + columns, mask=inside, other=0.0)
    dtype = halves.dtype.element_ty
    gate = gelu(gate.to(tl.float32)).to(dtype).to(tl.float32)  # rounded where the reference's tensor is
    tl.store(out + row * out_stride + columns, gate * up.to(tl.float32), mask=inside)


@triton.jit
def gelu(x):
    """`x · ½(1 + tanh(√(2/π)·(x + 0.044715·x³)))` (https://arxiv.org/abs/1606.08415); `½(1 + tanh y) = sigmoid(2y)`."""
    return x * tl.sigmoid(1.5957691216057308 * (x + 0.044715 * x * x * x))


@triton.jit
def _gelu_parts(
    parts, out, part_stride, stride, out_stride, n, PARTS: tl.constexpr, BLOCK: tl.constexpr, OVERLAP: tl.constexpr
):
    begin(OVERLAP)
    wait_for_inputs(OVERLAP)
    row = tl.program_id(0).to(tl.int64)
    columns = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = columns < n
    gate = sum_parts(parts + row * stride + columns, inside, part_stride, PARTS)
    up = sum_parts(parts + row * stride + n + columns, inside, part_stride, PARTS)
    tl.store(out + row * out_stride + columns, gelu(gate) * up, mask=inside)
