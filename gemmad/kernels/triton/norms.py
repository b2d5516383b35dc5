"""RMS norms: one program a row, the row kept in registers between its passes."""
# mypy: disable-error-code="no-untyped-def,untyped-decorator"
# ruff: noqa: N803, PLR0913, PLR0917  (compile-time arguments are written in capitals; a kernel takes what it touches)

from __future__ import annotations

import torch
import triton
import triton.language as tl

from gemmad.kernels.triton import launch
from gemmad.kernels.triton.launch import begin, wait_for_inputs


def rms_norm(x: torch.Tensor, weight: torch.Tensor, eps: float, *, out: torch.Tensor | None = None) -> torch.Tensor:
    """`x / sqrt(mean(x²) + eps) · weight`, as `reference.network.rms_norm` defines it. `out` may be x itself."""
    rows = x.reshape(-1, x.shape[-1])
    out = torch.empty_like(rows) if out is None else out.view(rows.shape)
    block, warps = _shape(rows.shape[1])
    _rms_norm[(len(rows),)](
        rows, weight, out, rows.stride(0), out.stride(0), eps,
        SIZE=rows.shape[1], BLOCK=block, **launch.options(x.device, warps=warps),
    )  # fmt: skip
    return out.view(x.shape)


def add_norm(
    x: torch.Tensor,
    residual: torch.Tensor,
    post_weight: torch.Tensor,
    next_weight: torch.Tensor,
    eps: float,
    *,
    out: tuple[torch.Tensor, torch.Tensor] | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """`residual + norm(x)` and the norm of that, as `reference.network.add_norm` defines it.

    x is [T, hidden], or [P, T, hidden] float32: parts of a product, which are added up in order and rounded first.
    Returns (normed, residual); `out` takes the two, and they may be x and residual themselves.
    """
    parts = x if x.dim() == 3 else x[None]
    normed, summed = (torch.empty_like(residual), torch.empty_like(residual)) if out is None else out
    block, warps = _shape(residual.shape[1])
    _add_norm[(len(residual),)](
        parts, residual, post_weight, next_weight, normed, summed,
        parts.stride(0), parts.stride(1), residual.stride(0), normed.stride(0), summed.stride(0), eps,
        PARTS=len(parts), SIZE=residual.shape[1], BLOCK=block, **launch.options(x.device, warps=warps),
    )  # fmt: skip
    return normed, summed


def _shape(size: int) -> tuple[int, int]:
    """(block, warps): eight elements a thread, which is one 16-byte load in bfloat16."""
    block: int = triton.next_power_of_2(size)
    return block, min(16, max(1, block // 256))


@triton.jit
def _rms_norm(
    x, weight, out, x_stride, out_stride, eps, SIZE: tl.constexpr, BLOCK: tl.constexpr, OVERLAP: tl.constexpr
):
    begin(OVERLAP)
    row = tl.program_id(0).to(tl.int64)
    columns = tl.arange(0, BLOCK)
    inside = columns < SIZE
    scale = tl.load(weight + columns, mask=inside, other=0.0)
    wait_for_inputs(OVERLAP)
    values = tl.load(x + row * x_stride + columns, mask=inside, other=0.0).to(tl.float32)
    tl.store(out + row * out_stride + columns, normalise(values, scale, eps, SIZE), mask=inside)


@triton.jit
def _add_norm(
    parts, residual, post_weight, next_weight, normed, summed,
    part_stride, x_stride, residual_stride, normed_stride, summed_stride, eps,
    PARTS: tl.constexpr, SIZE: tl.constexpr, BLOCK: tl.constexpr, OVERLAP: tl.constexpr,
):  # fmt: skip
    begin(OVERLAP)
    row = tl.program_id(0).to(tl.int64)
    columns = tl.arange(0, BLOCK)
    inside = columns < SIZE
    post_scale = tl.load(post_weight + columns, mask=inside, other=0.0)
    next_scale = tl.load(next_weight + columns, mask=inside, other=0.0)
    wait_for_inputs(OVERLAP)
    before = tl.load(residual + row * residual_stride + columns, mask=inside, other=0.0).to(tl.float32)
    # Rounded where the reference's tensors are: the product, the norm, then the sum, which the next norm sees rounded.
    dtype = summed.dtype.element_ty
    values = sum_parts(parts + row * x_stride + columns, inside, part_stride, PARTS).to(dtype).to(tl.float32)
    after = (before + normalise(values, post_scale, eps, SIZE).to(dtype).to(tl.float32)).to(dtype)
    tl.store(summed + row * summed_stride + columns, after, mask=inside)
    following = normalise(after.to(tl.float32), next_scale, eps, SIZE)
    tl.store(normed + row * normed_stride + columns, following, mask=inside)


@triton.jit
def sum_parts(places, inside, part_stride, PARTS: tl.constexpr):
    """The sum of what lies at `places` in each of PARTS parts, in order, float32; zeros outside."""
    total = tl.load(places, mask=inside, other=0.0).to(tl.float32)
    for part in tl.static_range(1, PARTS):
        total += tl.load(places + part * part_stride, mask=inside, other=0.0).to(tl.float32)
    return total


@triton.jit
def normalise(values, scale, eps, SIZE: tl.constexpr):
    """`values / sqrt(mean(values²) + eps) · scale` over one row of SIZE float32 values, zeros beyond them."""
    return values * tl.rsqrt(tl.sum(values * values, 0) / SIZE + eps) * scale
