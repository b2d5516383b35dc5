"""Attention by libraries that know no pages equals attention over pages."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from gemmad.errors import ConfigError
from gemmad.kernels.backends import Backend, allocate_scratch, find_backend
from gemmad.kernels.batch import AttentionBatch
from gemmad.kernels.pages import Pages
from gemmad.kernels.reference.attention import group_queries
from gemmad.kernels.reference.attention import paged_attention as twin
from tests.kernels.batches import DIM, KV_HEADS, moved, paged

triton = pytest.importorskip("triton", reason="triton is not installed")


def plain_varlen(
    q: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    query_starts: torch.Tensor,
    key_starts: torch.Tensor,
    /,
    *,
    max_q: int,
    max_k: int,
    window: int | None,
    scale: float,
) -> torch.Tensor:
    """`Varlen` in plain torch, one sequence after the other; what is outside of the bounds it is told is NaN."""
    out = torch.full_like(q, float("nan"))
    for s in range(len(query_starts) - 1):
        queries = slice(int(query_starts[s]), min(int(query_starts[s + 1]), int(query_starts[s]) + max_q))
        seen = slice(int(key_starts[s]), min(int(key_starts[s + 1]), int(key_starts[s]) + max_k))
        count, length = queries.stop - queries.start, seen.stop - seen.start
        if count == 0:
            continue
        behind = torch.arange(length - count, length, device=q.device)[:, None] - torch.arange(length, device=q.device)
        mask = (behind >= 0) & (behind < (window or length + 1))
        q_s, k_s, v_s = (x.transpose(0, 1)[None] for x in (q[queries], keys[seen], values[seen]))
        mixed = F.scaled_dot_product_attention(q_s, k_s, v_s, attn_mask=mask, scale=scale, enable_gqa=True)
        out[queries] = mixed[0].transpose(0, 1)
    return out


def chunks(chance: random.Random, *, most: int) -> list[tuple[int, int, int]]:
    """Sequences of (computed before, new tokens), without images."""
    return [(chance.choice([0, chance.randint(1, 150)]), chance.randint(2, 50), 0)] + [
        (chance.randint(0, 150), chance.choice([1, chance.randint(2, 50)]), 0)
        for _ in range(chance.randint(0, most - 1))
    ]


@pytest.mark.parametrize("seed", range(6))
def test_gathered_equals_paged(seed: int, device: torch.device) -> None:
    """Chunks over any context, ragged, with a window or not, pages in a ring or not, after other layers' keys."""
    from gemmad.kernels.triton.gather import Gathered, GatheredAttention

    chance = random.Random(seed)
    page, window = chance.choice([1, 16, 64]), chance.choice([None, 20, 130])
    drawn = paged(chunks(chance, most=4), page=page, window=window, seed=seed, dtype=torch.float32, ring=bool(seed % 2))
    q, keys, values, batch = moved(device, *drawn)
    scratch = allocate_scratch(896, kv_heads=KV_HEADS, head_dim=DIM, dtype=q.dtype, device=device)
    scratch.fill_(float("nan"))
    attention = GatheredAttention(Backend("plain", plain_varlen), scratch)
    shared = attention.prepare(replace(batch, gather_tokens=896))
    assert isinstance(shared, Gathered)
    for layer in range(2):
        out = attention.attend(q, Pages(keys + layer, values - layer), shared, scale=0.125)
        exact = twin(q, Pages(keys + layer, values - layer), group_queries(batch), scale=0.125)
        torch.testing.assert_close(out, exact, rtol=1e-4, atol=1e-4)


def test_padding_does_no_harm(device: torch.device) -> None:
    """Sequences without tokens own no keys, and rows of nobody are left alone."""
    from gemmad.kernels.triton.gather import GatheredAttention

    q, keys, values, batch = moved(device, *paged([(90, 30, 0)], page=16, window=50, seed=4, dtype=torch.float32))
    none = torch.zeros(3, dtype=torch.int32, device=device)
    padded = AttentionBatch(**{
        **vars(batch),
        "query_starts": torch.cat([batch.query_starts, none + 30]),
        "context_lens": torch.cat([batch.context_lens, none]),
        "page_table": torch.cat([batch.page_table, none.repeat(int(batch.columns))]),
        "gather_tokens": 128,
    })  # fmt: skip
    scratch = allocate_scratch(128, kv_heads=KV_HEADS, head_dim=DIM, dtype=q.dtype, device=device)
    attention = GatheredAttention(Backend("plain", plain_varlen), scratch)
    out = attention.attend(q, Pages(keys, values), attention.prepare(padded), scale=0.125)
    torch.testing.assert_close(
        out, twin(q, Pages(keys, values), group_queries(batch), scale=0.125), rtol=1e-4, atol=1e-4
    )


@pytest.mark.parametrize("batch_of", [[(40, 20, 10)], [(40, 1, 0), (9, 1, 0)]], ids=["image", "decode"])
def test_what_a_backend_never_sees(batch_of: list[tuple[int, int, int]], device: torch.device) -> None:
    """Steps with an image, or that only decode, are computed by our own kernels."""
    from gemmad.kernels.triton.gather import GatheredAttention

    def forbidden(*_: Any, **__: Any) -> torch.Tensor:
        raise AssertionError("asked")

    q, keys, values, batch = moved(device, *paged(batch_of, page=16, window=None, seed=5, dtype=torch.float32))
    scratch = allocate_scratch(64, kv_heads=KV_HEADS, head_dim=DIM, dtype=q.dtype, device=device)
    attention = GatheredAttention(Backend("forbidden", forbidden), scratch)
    allowed = batch if batch.longest_query > 1 else replace(batch, gather_tokens=64)
    out = attention.attend(q, Pages(keys, values), attention.prepare(allowed), scale=0.125)
    torch.testing.assert_close(
        out, twin(q, Pages(keys, values), group_queries(batch), scale=0.125), rtol=1e-4, atol=1e-4
    )


def test_a_set_of_kernels_takes_a_backend(device: torch.device) -> None:
    """The Triton set computes attention with the backend it is given, and without one by itself."""
    from gemmad.kernels import ops

    q, keys, values, batch = moved(device, *paged([(40, 20, 0)], page=16, window=None, seed=8, dtype=torch.float32))
    scratch = allocate_scratch(64, kv_heads=KV_HEADS, head_dim=DIM, dtype=q.dtype, device=device)
    exact = twin(q, Pages(keys, values), group_queries(batch), scale=0.125)
    for chosen in (ops.triton_ops(), ops.triton_ops(Backend("plain", plain_varlen), scratch)):
        shared = chosen.prepare_attention(replace(batch, gather_tokens=64))
        out = chosen.attention(q, Pages(keys, values), shared, scale=0.125)
        torch.testing.assert_close(out, exact, rtol=1e-4, atol=1e-4)
    assert scratch.any()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("window", [None, 130])
@pytest.mark.parametrize("setting", ["torch", "flash"])
def test_libraries_equal_the_reference(setting: Any, window: int | None, device: torch.device) -> None:
    """torch's FlashAttention and flash-attn compute what the reference does, to bfloat16's grain."""
    from gemmad.kernels.triton.gather import GatheredAttention

    try:
        backend = find_backend(setting, device)
    except ConfigError as error:
        pytest.skip(str(error))
    assert backend is not None
    drawn = paged([(0, 300, 0), (500, 70, 0), (64, 1, 0)], page=16, window=window, seed=6)
    q, keys, values, batch = moved(device, *drawn)
    scratch = allocate_scratch(2048, kv_heads=KV_HEADS, head_dim=DIM, dtype=q.dtype, device=device)
    attention = GatheredAttention(backend, scratch)
    shared = attention.prepare(replace(batch, gather_tokens=2048))
    out = attention.attend(q, Pages(keys, values), shared, scale=0.125)
    exact = twin(q.float(), Pages(keys.float(), values.float()), group_queries(batch), scale=0.125)
    torch.testing.assert_close(out.float(), exact, rtol=2e-2, atol=2e-2)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("window", [None, 130])
def test_hoppers_own_kernel_equals_the_reference(window: int | None, device: torch.device) -> None:
    """On a Hopper the kernel of its own computes what the reference does, images included."""
    from gemmad.kernels.triton import hopper

    q, keys, values, batch = moved(device, *paged([(0, 300, 40), (500, 70, 0)], page=64, window=window, seed=7))
    if not hopper.can_prefill(q, Pages(keys, values)):
        pytest.skip("not a Hopper")
    exact = twin(q.float(), Pages(keys.float(), values.float()), group_queries(batch), scale=0.125)
    for rows in (hopper.SHORT_ROWS, hopper.ROWS):
        out = hopper.prefill(q, Pages(keys, values), batch, scale=0.125, rows=rows)
        torch.testing.assert_close(out.float(), exact, rtol=2e-2, atol=2e-2)
