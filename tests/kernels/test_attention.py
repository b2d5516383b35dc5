"""The attention kernel equals its twin in plain torch."""

from __future__ import annotations

import random

import pytest
import torch

from gemmad.kernels.reference.attention import group_queries
from gemmad.kernels.reference.attention import paged_attention as twin
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
@pytest.mark.parametrize("seed", range(8))
def test_equals_its_twin(seed: int, decode: bool) -> None:
    """Any lengths, pages, windows and images, with keys split over programs or not."""
    from gemmad.kernels.triton import attention

    chance = random.Random(seed)
    window, page = chance.choice([None, 1, 7, 16, 64]), chance.choice([1, 4, 16])
    q, keys, values, batch, _ = random_batch(shapes(chance, decode=decode), page=page, window=window, seed=seed)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    q, keys, values = (tensor.to(device) for tensor in (q, keys, values))
    moved = type(batch)(**{
        name: value.to(device) if isinstance(value, torch.Tensor) else value for name, value in vars(batch).items()
    })  # fmt: skip
    out = attention.paged_attention(q, keys, values, attention.plan_launch(moved), scale=0.3)
    torch.testing.assert_close(out, twin(q, keys, values, group_queries(moved), scale=0.3), rtol=1e-4, atol=1e-5)
