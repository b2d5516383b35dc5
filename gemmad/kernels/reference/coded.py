"""Products with coded weights in plain torch: the definition that every faster kernel is held to."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from gemmad.kernels.matrices import CodedMatrix, Matrix, decode, unpack
from gemmad.kernels.reference import network

_ROWS = 4096
"""Rows that are decoded at a time."""


def linear(x: torch.Tensor, weight: Matrix) -> torch.Tensor:
    """`x·weightᵀ`: x [T, in], weight [out, in] → [T, out] in x's dtype; with a coded weight it is computed in
    float32."""
    if isinstance(weight, torch.Tensor):
        return F.linear(x, weight)
    wide = x.float()
    parts = [_product(wide, weight.rows(at, at + _ROWS)) for at in range(0, weight.shape[0], _ROWS)]
    return torch.cat(parts, 1).to(x.dtype)


def _product(x: torch.Tensor, weight: CodedMatrix) -> torch.Tensor:
    """In float32; the one scale of a row meets its sum."""
    if weight.kind == "int4":
        return F.linear(x, decode(weight))
    return F.linear(x, unpack(weight.kind, weight.codes)) * weight.scales


def gate_up_gelu(x: torch.Tensor, gate_up: Matrix) -> torch.Tensor:
    """`gelu_tanh(x·gateᵀ) · (x·upᵀ)`: x [T, hidden], gate_up [2·intermediate, hidden] → [T, intermediate]."""
    gate, up = linear(x, gate_up).chunk(2, dim=-1)
    return F.gelu(gate, approximate="tanh") * up


def linear_add_norm(
    x: torch.Tensor,
    weight: Matrix,
    *,
    residual: torch.Tensor,
    post_weight: torch.Tensor,
    next_weight: torch.Tensor,
    eps: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    """A block's last product and what closes it: `add_norm(x·weightᵀ, …)`. Returns (normed, residual)."""
    return network.add_norm(linear(x, weight), residual, post_weight, next_weight, eps)


def embed(weight: Matrix, token_ids: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """Rows of the embedding [V, H] times `scale`, a number in the dtype that is computed in: [T] int64 → [T, H]."""
    if isinstance(weight, torch.Tensor):
        return weight[token_ids] * scale
    offsets = None if weight.offsets is None else weight.offsets[:, token_ids]
    rows = CodedMatrix(weight.kind, weight.codes[token_ids], weight.scales[:, token_ids], offsets)
    return decode(rows, scale.dtype) * scale
