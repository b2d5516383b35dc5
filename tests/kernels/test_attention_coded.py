"""Attention over keys and values of 8 bits equals its twin, and is close to attention over what was coded."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
import torch

from gemmad.kernels.backends import Backend, allocate_scratch
from gemmad.kernels.batch import AttentionBatch
from gemmad.kernels.pages import LARGEST_CODE, Pages, encode_rows
from gemmad.kernels.reference.attention import group_queries
from gemmad.kernels.reference.attention import paged_attention as twin
from tests.kernels.batches import DIM, KV_HEADS, moved, paged
from tests.kernels.test_attention import shapes
from tests.kernels.test_backends import chunks, plain_varlen
from tests.unit.kernels.test_attention import random_batch

triton = pytest.importorskip("triton", reason="triton is not installed")

kinds = pytest.mark.parametrize("kind", LARGEST_CODE, ids=str)
MOST_ERROR = {torch.int8: 0.02, torch.float8_e4m3fn: 0.06}
"""Of a mixed row of random values, over its norm."""


def coded(keys: torch.Tensor, values: torch.Tensor, kind: torch.dtype, *, heads_first: bool = False) -> Pages:
    """The same pages in codes; rows of very different sizes, so that a scale at the wrong place is seen."""
    (keys, key_scales), (values, value_scales) = (encode_rows(rows, kind) for rows in (keys, values))
    if heads_first:
        key_scales, value_scales = (
            scales.transpose(1, 2).contiguous().transpose(1, 2) for scales in (key_scales, value_scales)
        )
    return Pages(keys, values, key_scales, value_scales)


def uneven(rows: torch.Tensor, seed: int) -> torch.Tensor:
    """Rows of [.., D], each of a size of its own."""
    sizes = torch.rand(rows.shape[:-1], generator=torch.Generator().manual_seed(seed)) + 0.1
    return (rows * sizes.to(rows.device)[..., None]).to(rows.dtype)


def wide(pages: Pages) -> Pages:
    """The numbers that codes stand for, in float32."""
    assert pages.key_scales is not None
    assert pages.value_scales is not None
    return Pages(pages.keys.float() * pages.key_scales[..., None], pages.values.float() * pages.value_scales[..., None])


@kinds
@pytest.mark.parametrize("decode", [True, False], ids=["decode", "prefill"])
@pytest.mark.parametrize("seed", range(4))
def test_equals_its_twin(seed: int, decode: bool, kind: torch.dtype, device: torch.device) -> None:
    """Any lengths, pages, windows and images, small heads, queries in float32, in the cut that the batch gets."""
    from gemmad.kernels.triton import attention

    chance = random.Random(seed)
    window, page = chance.choice([None, 1, 7, 16, 64]), chance.choice([1, 4, 16])
    q, keys, values, batch, _ = random_batch(shapes(chance, decode=decode), page=page, window=window, seed=seed)
    q, keys, values, batch = moved(device, q, uneven(keys, seed), uneven(values, seed + 1), batch)
    pages = coded(keys, values, kind, heads_first=bool(seed % 2))
    out = attention.paged_attention(q, pages, attention.plan_launch(batch), scale=0.3)
    torch.testing.assert_close(out, twin(q, pages, group_queries(batch), scale=0.3), rtol=1e-4, atol=1e-5)


@kinds
@pytest.mark.parametrize("decode", [True, False], ids=["decode", "prefill"])
@pytest.mark.parametrize("seed", range(6))
def test_any_tile(seed: int, decode: bool, kind: torch.dtype, device: torch.device) -> None:
    """Blocks shorter and longer than pages and windows, rings, split keys, in bfloat16: equal to float32 over the same
    codes, and near float32 over what was coded."""
    from gemmad.kernels.triton import attention
    from gemmad.kernels.triton.attention_tiles import Tile

    chance = random.Random(seed)
    page, window = chance.choice([16, 32, 64]), chance.choice([None, 20, 64, 130])
    if decode:
        tile = Tile(1, chance.choice([16, 32, 64]), 2, 2, splits=chance.choice([1, 2, 5]))
        batch_of = [(chance.randint(0, 200), 1, 0) for _ in range(chance.randint(1, 3))]
    else:
        tile = Tile(chance.choice([2, 16, 32]), chance.choice([16, 32, 64]), 4, 2)
        batch_of = [(chance.randint(0, 150), n, chance.choice([0, min(n, 30)])) for n in (1, chance.randint(2, 60))]
    q, keys, values, batch = paged(batch_of, page=page, window=window, seed=seed, ring=bool(seed % 2))
    q, keys, values, batch = moved(device, q, uneven(keys, seed), uneven(values, seed + 1), batch)
    pages = coded(keys, values, kind, heads_first=True)
    out = attention.paged_attention(q, pages, attention.Launch(batch, tile), scale=0.125)
    groups = group_queries(batch)
    same = twin(q.float(), wide(pages), groups, scale=0.125)
    torch.testing.assert_close(out.float(), same, rtol=2e-2, atol=2e-2)
    exact = twin(q.float(), Pages(keys.float(), values.float()), groups, scale=0.125)
    assert (out.float() - exact).norm() <= MOST_ERROR[kind] * exact.norm()


@kinds
@pytest.mark.parametrize("decode", [True, False], ids=["decode", "prefill"])
@pytest.mark.parametrize("splits", [1, 4])
def test_padding_and_pages_of_zeros_do_no_harm(
    decode: bool, splits: int, kind: torch.dtype, device: torch.device
) -> None:
    """Sequences without tokens change nothing, and rows of a page that were never written give no NaN."""
    from gemmad.kernels.triton import attention
    from gemmad.kernels.triton.attention_tiles import Tile

    batch_of = [(50, 1, 0), (9, 1, 0)] if decode else [(50, 20, 0), (9, 30, 0)]
    q, keys, values, batch = moved(device, *paged(batch_of, page=64, window=40, seed=2, dtype=torch.float32))
    zeros = torch.zeros(3, dtype=torch.int32, device=device)
    padded = AttentionBatch(**{
        **vars(batch),
        "query_starts": torch.cat([batch.query_starts, zeros + len(q)]),
        "context_lens": torch.cat([batch.context_lens, zeros]),
        "page_table": torch.cat([batch.page_table, zeros.repeat(int(batch.columns))]),
    })  # fmt: skip
    keys, values = keys.clone(), values.clone()
    width = int(batch.columns)
    for s, context in enumerate(batch.context_lens.tolist()):
        last = int(batch.page_table[s * width + (context - 1) // 64 % width])
        keys[last, (context - 1) % 64 + 1 :] = values[last, (context - 1) % 64 + 1 :] = 0.0
    pages = coded(keys, values, kind)
    tile = Tile(1, 16, 2, 2, splits) if decode else Tile(16, 16, 2, 2)
    out = attention.paged_attention(q, pages, attention.Launch(padded, tile), scale=0.3)
    torch.testing.assert_close(out, twin(q, pages, group_queries(batch), scale=0.3), rtol=1e-4, atol=1e-5)


@kinds
@pytest.mark.parametrize("seed", range(3))
def test_gathered_codes_are_numbers(seed: int, kind: torch.dtype, device: torch.device) -> None:
    """A backend that knows no pages gets what the codes stand for."""
    from gemmad.kernels.triton.gather import Gathered, GatheredAttention

    chance = random.Random(seed)
    page, window = chance.choice([1, 16, 64]), chance.choice([None, 20, 130])
    drawn = paged(chunks(chance, most=3), page=page, window=window, seed=seed, dtype=torch.float32, ring=bool(seed % 2))
    q, keys, values, batch = moved(device, *drawn)
    pages = coded(uneven(keys, seed), uneven(values, seed + 1), kind, heads_first=bool(seed % 2))
    scratch = allocate_scratch(896, kv_heads=KV_HEADS, head_dim=DIM, dtype=q.dtype, device=device)
    attention = GatheredAttention(Backend("plain", plain_varlen), scratch)
    shared = attention.prepare(replace(batch, gather_tokens=896))
    assert isinstance(shared, Gathered)
    out = attention.attend(q, pages, shared, scale=0.125)
    torch.testing.assert_close(out, twin(q, pages, group_queries(batch), scale=0.125), rtol=1e-4, atol=1e-4)


def test_hopper_s_own_kernel_leaves_codes_to_the_portable_one() -> None:
    """Its products take keys and values as they lie in memory."""
    hopper = pytest.importorskip("gemmad.kernels.triton.hopper", reason="this Triton's Gluon is another")
    rows = torch.zeros(3, 64, 2, 64, dtype=torch.bfloat16)
    assert not hopper.can_prefill(rows.flatten(0, 1), coded(rows, rows, torch.int8))
