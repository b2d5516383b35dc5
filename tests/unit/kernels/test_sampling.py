"""Drawing tokens: the right ones, in the right proportions, the same ones again."""

from __future__ import annotations

from typing import Any

import torch

from gemmad.kernels.batch import SamplingBatch
from gemmad.kernels.reference.sampling import gumbel, logprobs, philox, sample


def batch(rows: int, **changes: Any) -> SamplingBatch:
    """Rows that sample without filters, their seeds counted up."""
    values: dict[str, Any] = {
        "temperature": torch.ones(rows),
        "top_k": torch.zeros(rows, dtype=torch.int64),
        "top_p": torch.ones(rows),
        "min_p": torch.zeros(rows),
        "seed": torch.arange(rows),
        "position": torch.zeros(rows, dtype=torch.int64),
        "banned_ids": torch.full((rows, 2), -1),
    }
    return SamplingBatch(**(values | changes))


def test_philox_gives_the_published_number() -> None:
    """The generator is Random123's philox4x32-10, by its known answer for zeros."""
    zero = torch.tensor(0)
    assert int(philox(zero, zero, zero)) == 0x6627E8D5


def test_draws_follow_the_softmax() -> None:
    """Over many seeds the share of each token is its probability."""
    logits = torch.tensor([2.0, 1.0, 0.0, -1.0, -30.0])
    rows = 40_000
    drawn = sample(logits.repeat(rows, 1), batch(rows))
    share = torch.bincount(drawn, minlength=5) / rows
    torch.testing.assert_close(share, logits.softmax(0), atol=0.01, rtol=0)


def test_a_draw_depends_on_seed_and_position_alone() -> None:
    """The same seed and position give the same token in any batch; another of either gives other draws."""
    logits = torch.randn(64, 500, generator=torch.Generator().manual_seed(1))
    whole = sample(logits.clone(), batch(64))
    for row in (0, 17, 63):
        alone = sample(logits[row : row + 1].clone(), batch(1, seed=torch.tensor([row])))
        assert int(alone[0]) == int(whole[row])
    assert not torch.equal(whole, sample(logits.clone(), batch(64, position=torch.ones(64, dtype=torch.int64))))
    assert not torch.equal(whole, sample(logits.clone(), batch(64, seed=torch.arange(64) + 1000)))


def test_filters_equal_transformers() -> None:
    """What top_k, top_p and min_p keep is what transformers' warpers keep, in their order."""
    from transformers import MinPLogitsWarper, TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

    from gemmad.kernels.reference import sampling

    random = torch.Generator().manual_seed(2)
    for temperature, k, p, minimum in [
        (0.7, 20, 0.9, 0.02),
        (1.3, 5, 1.0, 0.1),
        (1.0, 0, 0.5, 0.0),
        (2.0, 64, 0.95, 0.3),
    ]:
        logits = torch.randn(8, 300, generator=random) * 3
        scaled = logits / temperature
        filters = batch(8, top_k=torch.full((8,), k), top_p=torch.full((8,), p), min_p=torch.full((8,), minimum))
        kept, ids = sampling._filter(scaled, filters)
        ours = torch.full_like(scaled, float("-inf")).scatter(1, ids, kept)
        theirs = TemperatureLogitsWarper(temperature)(None, logits)
        for warper in ([TopKLogitsWarper(k)] if k else []) + [TopPLogitsWarper(p), MinPLogitsWarper(minimum)]:
            theirs = warper(None, theirs)
        assert torch.equal(ours.isfinite(), theirs.isfinite())


def test_greedy_rows_and_sampled_rows_share_a_batch() -> None:
    """Temperature 0 takes the largest logit, whatever its neighbours do."""
    logits = torch.randn(4, 50, generator=torch.Generator().manual_seed(3))
    drawn = sample(logits.clone(), batch(4, temperature=torch.tensor([0.0, 1.0, 0.0, 1.0])))
    assert drawn[0] == logits[0].argmax()
    assert drawn[2] == logits[2].argmax()


def test_banned_ids_are_never_drawn() -> None:
    """A stop id that may not come yet does not come, greedy or not."""
    logits = torch.zeros(2, 10)
    logits[:, 3] = 50.0
    drawn = sample(logits, batch(2, temperature=torch.tensor([0.0, 1.0]), banned_ids=torch.tensor([[3, -1], [-1, 3]])))
    assert 3 not in drawn.tolist()


def test_bfloat16_logits_are_taken_as_float32() -> None:
    """The same tokens come from logits in bfloat16 and from what they are in float32."""
    logits = (torch.randn(8, 300, generator=torch.Generator().manual_seed(4)) * 3).bfloat16()
    filters = batch(8, temperature=torch.full((8,), 0.7), top_k=torch.full((8,), 50), top_p=torch.full((8,), 0.9))
    assert torch.equal(sample(logits, filters), sample(logits.float(), filters))


def test_logprobs_are_the_network_s_own() -> None:
    """A token's log-probability and the likeliest tokens, in order, are those of the softmax of the raw logits."""
    logits = torch.tensor([[0.0, 2.0, 2.0, -1.0], [5.0, 0.0, float("-inf"), float("-inf")]])
    told = logprobs(logits, torch.tensor([3, 0]), count=3)
    exact = logits.double().softmax(-1).log()
    torch.testing.assert_close(told.token.double(), torch.stack((exact[0, 3], exact[1, 0])), rtol=1e-6, atol=1e-6)
    assert told.top_ids.tolist() == [[1, 2, 0], [0, 1, -1]]
    torch.testing.assert_close(told.top.double(), exact.sort(descending=True).values[:, :3], rtol=1e-6, atol=1e-6)


def test_noise_is_finite_and_gumbel() -> None:
    """No draw of the generator gives an infinite score; mean and variance are Gumbel's."""
    noise = gumbel(torch.tensor(7), torch.tensor(0), torch.arange(200_000))
    assert noise.isfinite().all()
    assert abs(noise.mean().item() - 0.5772) < 0.01
    assert abs(noise.var().item() - 1.6449) < 0.03
