"""Drawing tokens: a function of (seed, position), so that a row is drawn the same in any batch, on any worker.

The Gumbel-max trick (argmax of logits + Gumbel noise is a draw from their softmax) with noise from Philox 4x32-10, the
counter-based generator of Salmon et al., "Parallel random numbers: as easy as 1, 2, 3" (SC 2011): key = the request's
seed, counter = (token id, position). No state is kept.
"""

from __future__ import annotations

import torch

from gemmad.kernels.batch import Logprobs, SamplingBatch

_MASK = 0xFFFFFFFF
_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_WEYL = (0x9E3779B9, 0xBB67AE85)
_ROUNDS = 10


def sample(logits: torch.Tensor, batch: SamplingBatch) -> torch.Tensor:
    """One token for each row: logits [R, vocab] of any float type, taken as float32 → [R] int64.

    Filters apply in transformers' order: temperature, top_k, top_p, min_p.
    """
    logits = _ban(logits.float(), batch.banned_ids)
    best = logits.argmax(-1)
    if batch.greedy:
        return best
    scaled = logits / batch.temperature.clamp_min(1e-6)[:, None]
    kept, candidates = _filter(scaled, batch)
    noise = gumbel(batch.seed[:, None], batch.position[:, None], candidates)
    drawn = candidates.gather(1, (kept + noise).argmax(-1, keepdim=True))[:, 0]
    return torch.where(batch.temperature == 0, best, drawn)


def logprobs(logits: torch.Tensor, tokens: torch.Tensor, *, count: int) -> Logprobs:
    """What the network held of `tokens` [R] int64 and of each row's `count` likeliest: logits [R, vocab], float."""
    scores = logits.float().log_softmax(-1)
    ids = logits.sort(dim=-1, descending=True, stable=True).indices[:, :count]
    top = scores.gather(1, ids)
    return Logprobs(
        token=scores.gather(1, tokens[:, None])[:, 0],
        top_ids=torch.where(top > float("-inf"), ids, -1),
        top=top,
    )  # fmt: skip


def gumbel(seed: torch.Tensor, position: torch.Tensor, token: torch.Tensor) -> torch.Tensor:
    """Standard Gumbel noise, float32, of the broadcast shape of three int64 tensors."""
    bits = philox(seed, position, token)
    uniform = ((bits >> 8).double() + 0.5) * 2.0**-24  # in (0, 1), never at its ends
    return (-(-uniform.log()).log()).float()


def philox(seed: torch.Tensor, position: torch.Tensor, token: torch.Tensor) -> torch.Tensor:
    """First 32 bits of Philox 4x32-10 with key (seed) and counter (token, position), as int64 in [0, 2³²)."""
    token = token + torch.zeros_like(seed) + torch.zeros_like(position)
    key0, key1 = seed & _MASK, (seed >> 32) & _MASK
    counter = [token & _MASK, position & _MASK, (position >> 32) & _MASK, torch.zeros_like(token)]
    for _ in range(_ROUNDS):
        low0, high0 = _multiply(_MULTIPLIERS[0], counter[0])
        low1, high1 = _multiply(_MULTIPLIERS[1], counter[2])
        counter = [high1 ^ counter[1] ^ key0, low1, high0 ^ counter[3] ^ key1, low0]
        key0, key1 = (key0 + _WEYL[0]) & _MASK, (key1 + _WEYL[1]) & _MASK
    return counter[0]


def _multiply(constant: int, value: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Low and high half of a 32 × 32 bit product; int64 wraps around, its bits stay right."""
    product = value * constant
    return product & _MASK, (product >> 32) & _MASK


def _ban(logits: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
    """-inf at each row's ids; -1 changes nothing."""
    padded = torch.nn.functional.pad(logits, (0, 1))  # a column for -1 to point at
    columns = torch.where(ids < 0, logits.shape[1], ids)
    return padded.scatter(1, columns, float("-inf"))[:, :-1]


def _filter(scaled: torch.Tensor, batch: SamplingBatch) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits in descending order with what is filtered out at -inf, and the token ids they belong to: both [R, V]."""
    ordered, ids = scaled.sort(dim=-1, descending=True, stable=True)
    rank = torch.arange(ordered.shape[1], device=ordered.device)
    limit = torch.where(batch.top_k > 0, batch.top_k, ordered.shape[1])
    ordered = ordered.masked_fill(rank >= limit[:, None], float("-inf"))
    probabilities = ordered.softmax(-1)
    before = probabilities.cumsum(-1) - probabilities
    ordered = ordered.masked_fill((before >= batch.top_p[:, None]) & (rank > 0), float("-inf"))
    weakest = probabilities[:, :1] * batch.min_p[:, None]  # ratios to the top are the same before and after top_p
    return ordered.masked_fill((probabilities < weakest) & (rank > 0), float("-inf")), ids
