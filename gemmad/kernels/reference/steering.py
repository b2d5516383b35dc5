"""What a request wants of its logits before a token is drawn from them: penalties, bias, grammar."""

from __future__ import annotations

import torch

from gemmad.kernels.batch import SteeringBatch

MOST_TIMES = 0x7FFF
"""A token that a reply says more often counts as said so often."""
IN_PROMPT = -0x8000
"""The sign bit of an entry of `SteeringBatch.said`."""


def steer(logits: torch.Tensor, batch: SteeringBatch) -> torch.Tensor:
    """logits [R, vocab] of any float type → float32 of the same shape, from which each row is to be drawn.

    First the repetition penalty of Keskar et al. (arXiv:1909.05858) for tokens that prompt or reply have, then
    `- frequency · times - presence · (times > 0)` for those that the reply has (OpenAI's API reference), then bias; and
    -inf where the grammar does not allow a token. `logits` itself is not changed.
    """
    steered = logits.float()
    if bool((batch.slot >= 0).any()):
        steered = _add_bias(_penalise(steered, batch), batch)
    if bool((batch.mask_row >= 0).any()):
        steered = _hold(steered, batch)
    return steered


def count_said(tokens: torch.Tensor, batch: SteeringBatch) -> None:
    """Note in `batch.said` that rows with a slot have said these, [R] int64."""
    rows = batch.slot >= 0
    slots, ids = batch.slot[rows].long(), tokens[rows]
    entries = batch.said[slots, ids]
    batch.said[slots, ids] = torch.where((entries & MOST_TIMES) < MOST_TIMES, entries + 1, entries)


def _penalise(logits: torch.Tensor, batch: SteeringBatch) -> torch.Tensor:
    entries = batch.said[batch.slot.clamp_min(0).long()]
    times = (entries & MOST_TIMES).float()
    repetition = batch.repetition[:, None]
    repeated = torch.where(logits < 0, logits * repetition, logits / repetition)
    penalised = torch.where(entries != 0, repeated, logits)
    penalised = penalised - batch.frequency[:, None] * times - batch.presence[:, None] * (times > 0)
    return torch.where((batch.slot >= 0)[:, None], penalised, logits)


def _add_bias(logits: torch.Tensor, batch: SteeringBatch) -> torch.Tensor:
    slots = batch.slot.clamp_min(0).long()
    ids = torch.where((batch.slot >= 0)[:, None], batch.bias_ids[slots].long(), -1)
    padded = torch.nn.functional.pad(logits, (0, 1))  # a column for -1 to point at
    columns = torch.where(ids < 0, logits.shape[1], ids)
    return padded.scatter_add(1, columns, batch.bias[slots])[:, :-1]


def _hold(logits: torch.Tensor, batch: SteeringBatch) -> torch.Tensor:
    ids = torch.arange(logits.shape[1], device=logits.device)
    words = batch.masks[batch.mask_row.clamp_min(0).long()][:, ids // 32]
    allowed = (words >> (ids % 32).int()) & 1
    forbidden = (allowed == 0) & (batch.mask_row >= 0)[:, None]
    return logits.masked_fill(forbidden, float("-inf"))
