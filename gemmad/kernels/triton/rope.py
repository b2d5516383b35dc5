"""Rotary embedding: its tables, and the step from a merged projection to queries and paged keys and values."""
# mypy: disable-error-code="no-untyped-def,untyped-decorator"
# ruff: noqa: N803, PLR0913, PLR0915, PLR0917  (compile-time arguments are written in capitals; a kernel takes what it touches)

from __future__ import annotations

import torch
import triton
import triton.language as tl

from gemmad.kernels.pages import Pages
from gemmad.kernels.triton import launch
from gemmad.kernels.triton.kvcodes import as_codes, encode
from gemmad.kernels.triton.launch import begin, wait_for_inputs

_MANY_TOKENS = 64
"""From here on there are programs enough for every multiprocessor with several heads in each."""


def rope_tables(positions: torch.Tensor, inverse_frequencies: torch.Tensor, scale: float) -> torch.Tensor:
    """Cosines and sines, as `reference.network.rope_tables` defines them: positions [T] → [2, T, D/2] float32."""
    half = inverse_frequencies.shape[0]
    out = torch.empty(2, len(positions), half, dtype=torch.float32, device=positions.device)
    _rope_tables[(len(positions),)](
        positions, inverse_frequencies, out, out.stride(0), scale,
        HALF=half, BLOCK=triton.next_power_of_2(half), **launch.options(positions.device, warps=1),
    )  # fmt: skip
    return out


def rotate_and_store(
    qkv: torch.Tensor,
    q_weight: torch.Tensor,
    k_weight: torch.Tensor,
    rope: torch.Tensor,
    slots: torch.Tensor,
    pages: Pages,
    eps: float,
    *,
    out: torch.Tensor | None = None,
) -> torch.Tensor:
    """Norm and rotate queries and keys, write keys and values to their pages: `reference.network.rotate_and_store`.

    Pages may be slices of a larger tensor as long as a head's row is contiguous. A row whose slot is negative is
    padding: nothing is written for it, its queries are computed like any other's.
    """
    tokens, width = qkv.shape
    _, page_tokens, kv_heads, head_dim = pages.keys.shape
    heads = width // head_dim - 2 * kv_heads
    assert pages.keys.stride(3) == pages.values.stride(3) == 1, "a head's row lies in one piece"
    view = as_codes(pages)
    out = torch.empty(tokens, heads, head_dim, dtype=qkv.dtype, device=qkv.device) if out is None else out
    together = 1 if tokens < _MANY_TOKENS else 4
    _rotate_and_store[(tokens, triton.cdiv(heads + 2 * kv_heads, together))](
        qkv, q_weight, k_weight, rope, slots, view.keys, view.values, view.key_scales, view.value_scales, out,
        qkv.stride(0), rope.stride(0), rope.stride(1),
        *view.strides, *view.values.stride()[:3], *view.scale_strides, out.stride(0), out.stride(1), page_tokens, eps,
        Q_HEADS=heads, KV_HEADS=kv_heads, HALF=head_dim // 2, TOGETHER=together, KIND=view.kind,
        BLOCK=triton.next_power_of_2(head_dim // 2), **launch.options(qkv.device, warps=together),
    )  # fmt: skip
    return out


@triton.jit
def _rope_tables(
    positions, inverse_frequencies, out, sine_stride, scale,
    HALF: tl.constexpr, BLOCK: tl.constexpr, OVERLAP: tl.constexpr,
):  # fmt: skip
    begin(OVERLAP)
    row = tl.program_id(0)
    columns = tl.arange(0, BLOCK)
    inside = columns < HALF
    frequencies = tl.load(inverse_frequencies + columns, mask=inside, other=0.0)
    wait_for_inputs(OVERLAP)
    angles = tl.load(positions + row).to(tl.float32) * frequencies
    cosines = out + row * HALF + columns
    tl.store(cosines, tl.cos(angles) * scale, mask=inside)
    tl.store(cosines + sine_stride, tl.sin(angles) * scale, mask=inside)


@triton.jit
def _rotate_and_store(
    qkv, q_weight, k_weight, rope, slots, key_pages, value_pages, key_scales, value_scales, out,
    qkv_stride, sine_stride, rope_stride,
    key_page_stride, key_token_stride, key_head_stride, value_page_stride, value_token_stride, value_head_stride,
    scale_page_stride, scale_token_stride, scale_head_stride, out_stride, out_head_stride, page_tokens, eps,
    Q_HEADS: tl.constexpr, KV_HEADS: tl.constexpr, HALF: tl.constexpr, TOGETHER: tl.constexpr, KIND: tl.constexpr,
    BLOCK: tl.constexpr, OVERLAP: tl.constexpr,
):  # fmt: skip
    """One token, TOGETHER heads: all are rotated, then each is stored where its kind goes, values as they came or, like
    keys, as codes."""
    begin(OVERLAP)
    row = tl.program_id(0).to(tl.int64)
    head = (tl.program_id(1) * TOGETHER + tl.arange(0, TOGETHER))[:, None]
    columns = tl.arange(0, BLOCK)[None, :]
    inside = (columns < HALF) & (head < Q_HEADS + 2 * KV_HEADS)
    is_query = inside & (head < Q_HEADS)
    is_key = inside & (head >= Q_HEADS) & (head < Q_HEADS + KV_HEADS)
    is_value = inside & (head >= Q_HEADS + KV_HEADS)
    first_scale = tl.load(q_weight + columns + 0 * head, mask=is_query, other=0.0)
    second_scale = tl.load(q_weight + HALF + columns + 0 * head, mask=is_query, other=0.0)
    first_scale += tl.load(k_weight + columns + 0 * head, mask=is_key, other=0.0)
    second_scale += tl.load(k_weight + HALF + columns + 0 * head, mask=is_key, other=0.0)
    wait_for_inputs(OVERLAP)

    source = qkv + row * qkv_stride + head * (2 * HALF) + columns
    first = tl.load(source, mask=inside, other=0.0)
    second = tl.load(source + HALF, mask=inside, other=0.0)
    turn = rope + row * rope_stride + columns
    cosine = tl.load(turn, mask=columns < HALF, other=0.0)
    sine = tl.load(turn + sine_stride, mask=columns < HALF, other=0.0)
    slot = tl.load(slots + row).to(tl.int64)

    low = first.to(tl.float32)
    high = second.to(tl.float32)
    scale = tl.rsqrt(tl.sum(low * low + high * high, 1) / (2 * HALF) + eps)[:, None]
    low *= scale * first_scale
    high *= scale * second_scale
    turned_low = low * cosine - high * sine
    turned_high = high * cosine + low * sine

    queries = out + row * out_stride + head * out_head_stride + columns
    tl.store(queries, turned_low, mask=is_query)
    tl.store(queries + HALF, turned_high, mask=is_query)
    if slot >= 0:
        page = slot // page_tokens
        offset = slot % page_tokens
        key_head = head - Q_HEADS
        value_head = key_head - KV_HEADS
        keys = key_pages + page * key_page_stride + offset * key_token_stride + key_head * key_head_stride + columns
        values = value_pages + page * value_page_stride + offset * value_token_stride
        values += value_head * value_head_stride + columns
        key_low, key_high, value_low, value_high = turned_low, turned_high, first, second
        if KIND:
            low = tl.where(is_value, first.to(tl.float32), turned_low)
            high = tl.where(is_value, second.to(tl.float32), turned_high)
            reach = tl.max(tl.maximum(tl.abs(low), tl.abs(high)), 1)
            key_low, key_high, step = encode(reach, low, high, KIND)
            value_low, value_high = key_low, key_high
            place = page * scale_page_stride + offset * scale_token_stride
            one = columns == 0
            tl.store(key_scales + place + key_head * scale_head_stride + columns, step[:, None], mask=is_key & one)
            tl.store(
                value_scales + place + value_head * scale_head_stride + columns, step[:, None], mask=is_value & one
            )
        tl.store(keys, key_low, mask=is_key)
        tl.store(keys + HALF, key_high, mask=is_key)
        tl.store(values, value_low, mask=is_value)
        tl.store(values + HALF, value_high, mask=is_value)
