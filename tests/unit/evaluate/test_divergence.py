from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from gemmad.evaluate.divergence import Tally, mean, percentile, perplexity
from gemmad.evaluate.record import Row, figures


def random_rows(rows: int, vocab: int, *, seed: int) -> torch.Tensor:
    """Logits with a few likely tokens."""
    return 4 * torch.randn(rows, vocab, generator=torch.Generator().manual_seed(seed))


def test_figures_are_torchs() -> None:
    """Divergences and losses are those of `kl_div` and `cross_entropy` in float64, row by row."""
    truth, logits = random_rows(9, 300, seed=0).bfloat16(), random_rows(9, 300, seed=1)
    targets = torch.arange(9) * 30
    tally = Tally()
    tally.add(logits, targets, truth)
    log_p, log_q = (F.log_softmax(each.double(), 1) for each in (truth, logits))
    wanted = F.kl_div(log_q, log_p, reduction="none", log_target=True).sum(1)
    assert tally.divergences == pytest.approx(wanted.tolist(), rel=1e-12)
    assert tally.losses == pytest.approx(F.cross_entropy(logits.double(), targets, reduction="none").tolist())
    rises = F.cross_entropy(truth.double(), targets, reduction="none") * -1 + torch.tensor(tally.losses).double()
    assert tally.rises == pytest.approx(rises.tolist(), abs=1e-5)
    assert tally.agreed == int((truth.argmax(1) == logits.argmax(1)).sum())


def test_rows_may_come_in_any_pieces() -> None:
    """A vocabulary so large that rows are widened one by one gives the figures of each row alone."""
    truth, logits = random_rows(3, 5 << 20, seed=2), random_rows(3, 5 << 20, seed=3)
    targets = torch.tensor([5, 6, 7])
    whole, single = Tally(), Tally()
    whole.add(logits, targets, truth)
    for row in range(3):
        single.add(logits[row : row + 1], targets[row : row + 1], truth[row : row + 1])
    assert whole == single


def test_the_same_network_diverges_by_nothing() -> None:
    """And of equal logits the first is the likeliest, so ties are no disagreement."""
    logits = torch.zeros(2, 5)
    tally = Tally()
    tally.add(logits, torch.tensor([1, 2]), logits.clone())
    assert (tally.divergences, tally.agreed) == ([0.0, 0.0], 2)
    assert perplexity(tally.losses).value == pytest.approx(5.0)


def test_means_tell_their_error() -> None:
    """The standard error is the sample's deviation over the root of the count; one sample has none."""
    found = mean([1.0, 2.0, 3.0, 4.0])
    assert found.value == 2.5
    assert found.error == pytest.approx(math.sqrt(5 / 3) / 2)
    assert mean([3.0]).error == 0.0
    assert percentile(list(range(101)), 99) == 99


def test_a_row_has_what_was_counted() -> None:
    """The reference has a perplexity alone; the others how near they are."""
    tally = Tally(losses=[0.0, math.log(4)])
    reference = figures(Row(weights="bf16", kv="bf16"), tally)
    assert reference.perplexity == pytest.approx(2.0)
    assert reference.likeness is None
    tally.divergences, tally.rises, tally.agreed = [0.1, 0.3], [0.5, -0.5], 1
    near = figures(Row(weights="int4", kv="fp8"), tally).likeness
    assert near is not None
    assert near.kl_mean == pytest.approx(0.2)
    assert (near.kl_max, near.top1_agreement, near.perplexity_ratio) == (0.3, 0.5, 1.0)
