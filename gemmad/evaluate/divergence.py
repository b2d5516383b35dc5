"""How far one next-token distribution is from another, token by token.

With logits z over the vocabulary V, `log p(v) = z_v - log Σ_w exp z_w`. For a scored token t, p the reference's
distribution before it and q the quantised network's, all in nats and in float64:

    negative log-likelihood   -log q(t); its mean's exponential is the perplexity
    KL(p ‖ q)                 Σ_v p(v) · (log p(v) - log q(v))     https://doi.org/10.1214/aoms/1177729694
    agreement                 argmax p = argmax q, the first of equals
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from gemmad.bench.stats import quantile

_NUMBERS_AT_ONCE = 1 << 23
"""Logits that are widened to float64 at a time: 64 MiB, a few times over."""


@dataclass
class Tally:
    """Figures of every scored token so far. One writer: whoever computes the network."""

    losses: list[float] = field(default_factory=list)
    """-log q(t)."""
    divergences: list[float] = field(default_factory=list)
    """KL(p ‖ q); none where there is no other network."""
    rises: list[float] = field(default_factory=list)
    """log p(t) - log q(t)."""
    agreed: int = 0

    def add(self, logits: torch.Tensor, targets: torch.Tensor, truth: torch.Tensor | None = None) -> None:
        """Rows of one step: logits [R, V] and the tokens [R] that came; `truth` [R, V] are the reference's logits."""
        rows = max(1, _NUMBERS_AT_ONCE // logits.shape[1])
        for at in range(0, logits.shape[0], rows):
            here = slice(at, at + rows)
            log_q, came = _log_softmax(logits[here]), targets[here, None]
            self.losses += (-log_q.gather(1, came)).flatten().tolist()
            if truth is not None:
                self._compare(log_q, _log_softmax(truth[here].to(logits.device)), came)

    def _compare(self, log_q: torch.Tensor, log_p: torch.Tensor, came: torch.Tensor) -> None:
        self.rises += (log_p.gather(1, came) - log_q.gather(1, came)).flatten().tolist()
        self.agreed += int((log_p.argmax(1) == log_q.argmax(1)).sum())
        self.divergences += (log_p.exp() * (log_p - log_q)).sum(1).clamp_min(0.0).tolist()


@dataclass(frozen=True)
class Mean:
    """Of independent samples."""

    value: float
    error: float
    """Its standard error."""


def mean(samples: Sequence[float]) -> Mean:
    """Of at least one sample; a single one has no error that could be told."""
    count = len(samples)
    value = math.fsum(samples) / count
    if count == 1:
        return Mean(value, 0.0)
    variance = math.fsum((sample - value) ** 2 for sample in samples) / (count - 1)
    return Mean(value, math.sqrt(variance / count))


def perplexity(losses: Sequence[float]) -> Mean:
    """`exp(mean of -log q(t))`; its error by the derivative, exp(m) · error of m.

    Of `rises` it is the ratio of both perplexities. Hard tokens are hard for both networks, so its error is far smaller
    than that of either.
    """
    loss = mean(losses)
    return Mean(math.exp(loss.value), math.exp(loss.value) * loss.error)


def percentile(samples: Sequence[float], percent: float) -> float:
    """So many percent of the samples lie below."""
    return quantile(samples, percent / 100)


def _log_softmax(logits: torch.Tensor) -> torch.Tensor:
    return torch.log_softmax(logits.double(), 1)
