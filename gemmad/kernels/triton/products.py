"""Products with a weight of either kind: numbers go to `gemv`, codes to `coded`."""

from __future__ import annotations

import torch

from gemmad.kernels.matrices import Matrix
from gemmad.kernels.triton import coded, decoding, gemv
from gemmad.kernels.triton.norms import add_norm


def linear(x: torch.Tensor, weight: Matrix) -> torch.Tensor:
    """`x·weightᵀ`, as `reference.coded.linear` defines it."""
    return gemv.linear(x, weight) if isinstance(weight, torch.Tensor) else coded.linear(x, weight)


def gate_up_gelu(x: torch.Tensor, gate_up: Matrix) -> torch.Tensor:
    """`gelu_tanh(x·gateᵀ) · (x·upᵀ)`, as `reference.coded.gate_up_gelu` defines it."""
    if isinstance(gate_up, torch.Tensor):
        return gemv.gate_up_gelu(x, gate_up)
    return coded.gate_up_gelu(x, gate_up)


def linear_add_norm(
    x: torch.Tensor,
    weight: Matrix,
    *,
    residual: torch.Tensor,
    post_weight: torch.Tensor,
    next_weight: torch.Tensor,
    eps: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    """A block's last product and what closes it, as `reference.coded.linear_add_norm` defines them: parts of a product
    are added up by the norm that reads them. Returns (normed, residual)."""
    product = gemv.product(x, weight) if isinstance(weight, torch.Tensor) else coded.product(x, weight)
    return add_norm(product, residual, post_weight, next_weight, eps)


def embed(weight: Matrix, token_ids: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """Rows of the embedding times `scale`, as `reference.coded.embed` defines it."""
    return weight[token_ids] * scale if isinstance(weight, torch.Tensor) else decoding.embed(weight, token_ids, scale)
