"""The network's small operations in plain torch: the definition that every faster kernel is held to."""

from __future__ import annotations

import torch

from gemmad.kernels.pages import Pages, encode_rows


def rms_norm(x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
    """`x / sqrt(mean(x²) + eps) · weight` over the last dimension, computed in float32, returned in x's dtype.

    `weight` is float32 and holds Gemma's `1 + w` (https://arxiv.org/abs/1910.07467, with Gemma's offset).
    """
    wide = x.float()
    return (wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + eps) * weight).to(x.dtype)


def add_norm(
    x: torch.Tensor, residual: torch.Tensor, post_weight: torch.Tensor, next_weight: torch.Tensor, eps: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Close one block and open the next: `residual + norm(x)`, and the next block's norm of that. All [T, hidden].

    Returns (normed, residual).
    """
    residual = residual + rms_norm(x, post_weight, eps)
    return rms_norm(residual, next_weight, eps), residual


def rope_tables(positions: torch.Tensor, inverse_frequencies: torch.Tensor, scale: float) -> torch.Tensor:
    """Cosines and sines of rotary embedding (https://arxiv.org/abs/2104.09864).

    positions [T] int64, inverse_frequencies [D/2] float32 → [2, T, D/2] float32.
    """
    angles = positions.float()[:, None] * inverse_frequencies
    return torch.stack((angles.cos(), angles.sin())) * scale


def rotate_and_store(
    qkv: torch.Tensor,
    q_weight: torch.Tensor,
    k_weight: torch.Tensor,
    rope: torch.Tensor,
    slots: torch.Tensor,
    pages: Pages,
    eps: float,
) -> torch.Tensor:
    """Norm and rotate queries and keys, write keys and values to their pages, return the queries.

    qkv [T, (H + 2K)·D] as the merged projection gives it; q_weight, k_weight [D] float32; rope [2, T, D/2];
    pages of K heads are written at `slots` [T]. Returns [T, H, D] in qkv's dtype. A row whose slot is negative is
    padding: nothing is written for it. All of it is computed in float32 and rounded or coded once, at the end;
    transformers rounds in between.
    """
    _, page_tokens, kv_heads, head_dim = pages.keys.shape
    heads = qkv.shape[1] // head_dim - 2 * kv_heads
    parts = qkv.view(qkv.shape[0], -1, head_dim)
    q, k, v = parts[:, :heads], parts[:, heads : heads + kv_heads], parts[:, heads + kv_heads :]
    cos, sin = rope[0][:, None], rope[1][:, None]
    q = _rotate(rms_norm(q.float(), q_weight, eps), cos, sin).to(qkv.dtype)
    k = _rotate(rms_norm(k.float(), k_weight, eps), cos, sin)
    kept = slots >= 0
    places = slots[kept] // page_tokens, slots[kept] % page_tokens
    _store(k[kept], pages.keys, pages.key_scales, places)
    _store(v[kept], pages.values, pages.value_scales, places)
    return q


def _store(
    rows: torch.Tensor, target: torch.Tensor, scales: torch.Tensor | None, places: tuple[torch.Tensor, torch.Tensor]
) -> None:
    if scales is None:
        target.index_put_(places, rows.to(target.dtype))
        return
    codes, reach = encode_rows(rows, target.dtype)
    target.view(torch.int8).index_put_(places, codes.view(torch.int8))  # torch has no such operation for e4m3
    scales.index_put_(places, reach)


def _rotate(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    first, second = x.chunk(2, dim=-1)
    return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)
