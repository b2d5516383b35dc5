"""What penalties, bias and grammar do to logits: transformers and OpenAI's formula are the judges."""

from __future__ import annotations

from typing import Any

import torch

from gemmad.kernels.batch import SteeringBatch
from gemmad.kernels.reference.steering import IN_PROMPT, MOST_TIMES, count_said, steer

VOCABULARY = 70


def batch(rows: int, **changes: Any) -> SteeringBatch:
    """Rows with a slot each that want nothing of it."""
    values: dict[str, Any] = {
        "slot": torch.arange(rows, dtype=torch.int32),
        "repetition": torch.ones(rows),
        "frequency": torch.zeros(rows),
        "presence": torch.zeros(rows),
        "said": torch.zeros(rows, VOCABULARY, dtype=torch.int16),
        "bias_ids": torch.full((rows, 3), -1, dtype=torch.int32),
        "bias": torch.zeros(rows, 3),
        "mask_row": torch.full((rows,), -1, dtype=torch.int32),
        "masks": torch.zeros(rows, 3, dtype=torch.int32),
    }
    return SteeringBatch(**(values | changes))


def logits(rows: int) -> torch.Tensor:
    """Of either sign."""
    return torch.randn(rows, VOCABULARY, generator=torch.Generator().manual_seed(3)) * 4


def test_repetition_is_transformers() -> None:
    """Tokens of prompt and reply are penalised as transformers' processor does it, once however often they came."""
    from transformers import RepetitionPenaltyLogitsProcessor

    prompt, reply = [3, 9, 9, 12, 60], [9, 44, 44]
    said = torch.zeros(1, VOCABULARY, dtype=torch.int16)
    said[0, prompt] = IN_PROMPT
    before = logits(1)
    rows = batch(1, said=said, repetition=torch.tensor([1.3]))
    for token in reply:
        count_said(torch.tensor([token]), rows)
    wanted = RepetitionPenaltyLogitsProcessor(1.3)(torch.tensor([prompt + reply]), before.clone())
    torch.testing.assert_close(steer(before, rows), wanted)


def test_frequency_and_presence_are_openai_s() -> None:
    """mu[j] - c[j] · frequency - (c[j] > 0) · presence, with the counts of the reply alone."""
    said = torch.zeros(2, VOCABULARY, dtype=torch.int16)
    said[:, [5, 6]] = IN_PROMPT
    rows = batch(2, said=said, frequency=torch.tensor([0.5, -0.25]), presence=torch.tensor([0.75, 0.0]))
    for tokens in ([6, 6], [6, 7], [8, 8]):
        count_said(torch.tensor(tokens), rows)
    wanted = logits(2)
    wanted[0, 6] -= 2 * 0.5 + 0.75
    wanted[0, 8] -= 0.5 + 0.75
    wanted[1, [6, 7, 8]] += 0.25
    torch.testing.assert_close(steer(logits(2), rows), wanted)


def test_bias_is_added() -> None:
    """To the tokens that are named, and -1 names none."""
    ids = torch.tensor([[4, 69, -1], [-1, -1, -1]], dtype=torch.int32)
    rows = batch(2, bias_ids=ids, bias=torch.tensor([[-100.0, 2.5, 7.0], [1.0, 1.0, 1.0]]))
    wanted = logits(2)
    wanted[0, 4] -= 100
    wanted[0, 69] += 2.5
    torch.testing.assert_close(steer(logits(2), rows), wanted)


def test_a_grammar_leaves_what_it_allows() -> None:
    """A set bit is a token that may follow, the lowest bit of a word first; a row without a grammar keeps all."""
    allowed = {0, 31, 32, 63, 64, 69}
    masks = torch.zeros(1, 3, dtype=torch.int64)
    for token in allowed:
        masks[0, token // 32] |= 1 << token % 32
    signed = torch.where(masks >= 1 << 31, masks - (1 << 32), masks).int()
    rows = batch(2, mask_row=torch.tensor([-1, 0], dtype=torch.int32), masks=signed)
    steered = steer(logits(2), rows)
    assert torch.equal(steered[0], logits(2)[0])
    assert set((steered[1] > float("-inf")).nonzero()[:, 0].tolist()) == allowed


def test_counts_stop_where_they_are_full() -> None:
    """A token said more often than can be counted keeps its largest count, and the prompt's mark."""
    said = torch.full((2, VOCABULARY), MOST_TIMES, dtype=torch.int16)
    said[1] |= IN_PROMPT
    rows = batch(2, said=said.clone())
    count_said(torch.tensor([1, 1]), rows)
    assert torch.equal(rows.said, said)
