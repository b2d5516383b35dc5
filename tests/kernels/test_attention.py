"""The attention kernels equal their twin in plain torch."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
import torch

from gemmad.kernels.batch import AttentionBatch
from gemmad.kernels.pages import Pages
from gemmad.kernels.reference.attention import group_queries
from gemmad.kernels.reference.attention import paged_attention as twin
from tests.kernels.batches import moved, paged
from tests.unit.kernels.test_attention import random_batch

triton = pytest.importorskip("triton", reason="triton is not installed")


def shapes(chance: random.Random, *, decode: bool) -> list[tuple[int, int, int]]:
    """Sequences of (computed before, new tokens, image tokens among them)."""
    found = []
    for _ in range(chance.randint(1, 4)):
        new = 1 if decode else chance.randint(1, 70)
        found.append((chance.randint(0, 90), new, chance.choice([0, min(4, new), new])))
    return found


@pytest.mark.parametrize("decode", [True, False], ids=["decode", "prefill"])
@pytest.mark.parametrize("seed", range(6))
def test_equals_its_twin(seed: int, decode: bool, device: torch.device) -> None:
    """Any lengths, pages, windows and images, in the cut that the batch gets."""
    from gemmad.kernels.triton import attention

    chance = random.Random(seed)
    window, page = chance.choice([None, 1, 7, 16, 64]), chance.choice([1, 4, 16])
    q, keys, values, batch, _ = random_batch(shapes(chance, decode=decode), page=page, window=window, seed=seed)
    q, keys, values, batch = moved(device, q, keys, values, batch)
    out = attention.paged_attention(q, Pages(keys, values), attention.plan_launch(batch), scale=0.3)
    torch.testing.assert_close(out, twin(q, Pages(keys, values), group_queries(batch), scale=0.3), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("seed", range(8))
def test_any_prefill_tile(seed: int, device: torch.device) -> None:
    """Blocks of keys shorter and longer than a page and than the window, rings of pages, and more heads in a tile."""
    from gemmad.kernels.triton import attention
    from gemmad.kernels.triton.attention_tiles import Tile

    chance = random.Random(seed)
    tile = Tile(chance.choice([2, 16, 32, 64]), chance.choice([16, 32, 64]), 4, 2)
    page, window = chance.choice([16, 32, 64]), chance.choice([None, 20, 64, 130])
    batch_of = [(chance.randint(0, 150), new, chance.choice([0, min(new, 30)])) for new in (1, chance.randint(2, 70))]
    drawn = paged(batch_of, page=page, window=window, seed=seed, ring=bool(seed % 2))
    q, keys, values, batch = moved(device, *drawn)
    out = attention.paged_attention(q, Pages(keys, values), attention.Launch(batch, tile), scale=0.125)
    close_in_bfloat16(out, q, keys, values, batch)


@pytest.mark.parametrize("seed", range(8))
def test_any_decode_tile(seed: int, device: torch.device) -> None:
    """Keys split over programs or not, more splits than blocks, short and long pages, rings; twice with the same
    counters."""
    from gemmad.kernels.triton import attention
    from gemmad.kernels.triton.attention_tiles import Tile

    chance = random.Random(seed)
    tile = Tile(1, chance.choice([16, 32, 64]), 2, 2, splits=chance.choice([1, 2, 5, 8]))
    page, window = chance.choice([16, 32, 64]), chance.choice([None, 20, 64, 130])
    batch_of = [(chance.randint(0, 200), 1, 0) for _ in range(chance.randint(1, 3))]
    drawn = paged(batch_of, page=page, window=window, seed=seed, ring=bool(seed % 2))
    q, keys, values, batch = moved(device, *drawn)
    for _ in range(2):
        out = attention.paged_attention(q, Pages(keys, values), attention.Launch(batch, tile), scale=0.125)
        close_in_bfloat16(out, q, keys, values, batch)


def close_in_bfloat16(
    out: torch.Tensor, q: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, batch: AttentionBatch
) -> None:
    """Equal to what float32 gives, but for bfloat16's own grain."""
    exact = twin(q.float(), Pages(keys.float(), values.float()), group_queries(batch), scale=0.125)
    torch.testing.assert_close(out.float(), exact, rtol=2e-2, atol=2e-2)


@pytest.mark.parametrize("decode", [True, False], ids=["decode", "prefill"])
@pytest.mark.parametrize("splits", [1, 4])
def test_padding_does_no_harm(decode: bool, splits: int, device: torch.device) -> None:
    """Sequences without tokens and rows without a sequence, as a captured graph has them, change nothing."""
    from gemmad.kernels.triton import attention
    from gemmad.kernels.triton.attention_tiles import Tile

    batch_of = [(50, 1, 0), (9, 1, 0)] if decode else [(50, 20, 0), (9, 30, 0)]
    q, keys, values, batch = moved(device, *paged(batch_of, page=16, window=40, seed=2, dtype=torch.float32))
    tokens = len(q)
    zeros = torch.zeros(5, dtype=torch.int32, device=device)
    padded = AttentionBatch(**{
        **vars(batch),
        "query_starts": torch.cat([batch.query_starts, zeros[:3] + tokens]),
        "context_lens": torch.cat([batch.context_lens, zeros[:3]]),
        "page_table": torch.cat([batch.page_table, zeros.repeat(int(batch.columns))]),
        "positions": torch.cat([batch.positions, zeros.long()]),
        "reach": torch.cat([batch.reach, zeros.long() - 1]),
    })  # fmt: skip
    tile = Tile(1, 16, 2, 2, splits) if decode else Tile(16, 16, 2, 2)
    longer = torch.cat([q, torch.full((5, *q.shape[1:]), float("nan"), device=device)])
    out = attention.paged_attention(longer, Pages(keys, values), attention.Launch(padded, tile), scale=0.3)
    exact = twin(q, Pages(keys, values), group_queries(batch), scale=0.3)
    torch.testing.assert_close(out[:tokens], exact, rtol=1e-4, atol=1e-5)


def test_heads_first_in_a_page(device: torch.device) -> None:
    """Pages may be any view in which a head's row lies in one piece."""
    from gemmad.kernels.triton import attention

    q, keys, values, batch = moved(device, *paged([(90, 20, 0)], page=64, window=None, seed=3, dtype=torch.float32))
    keys_turned, values_turned = (pages.transpose(1, 2).contiguous().transpose(1, 2) for pages in (keys, values))
    exact = attention.paged_attention(q, Pages(keys, values), attention.plan_launch(batch), scale=0.3)
    out = attention.paged_attention(q, Pages(keys_turned, values_turned), attention.plan_launch(batch), scale=0.3)
    torch.testing.assert_close(out, exact)
    decoding = replace(batch, query_starts=batch.query_starts.clamp_max(1), longest_query=1)
    exact = attention.paged_attention(q[:1], Pages(keys, values), attention.plan_launch(decoding), scale=0.3)
    out = attention.paged_attention(
        q[:1], Pages(keys_turned, values_turned), attention.plan_launch(decoding), scale=0.3
    )
    torch.testing.assert_close(out, exact)
