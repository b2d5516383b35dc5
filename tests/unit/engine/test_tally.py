"""What a sequence has said, as the device's tables hold it."""

from __future__ import annotations

import numpy as np

from gemmad.engine.sequence import new_sequence
from gemmad.engine.steering import list_biases, tally
from gemmad.generation import Prompt, SamplingParams
from gemmad.kernels.reference.steering import IN_PROMPT, MOST_TIMES

ROW = 32


def row(sampling: SamplingParams, *, generated: tuple[int, ...]) -> dict[int, int]:
    """The entries that are not zero, of a row that was full of something else."""
    sequence = new_sequence(1, Prompt((4, 4, 5, 262_144)), sampling, generated=generated)
    entries = np.full(ROW, 77, np.int16)
    tally(sequence, entries)
    return {token: int(entry) for token, entry in enumerate(entries) if entry}


def test_prompt_and_reply() -> None:
    """The prompt is a mark, the reply a count; a soft token outside the vocabulary is neither."""
    sampling = SamplingParams(max_tokens=9, repetition_penalty=1.1)
    assert row(sampling, generated=(5, 9, 9)) == {4: IN_PROMPT, 5: IN_PROMPT + 1, 9: 2}


def test_a_prompt_that_nobody_asks_about() -> None:
    """Frequency and presence are of the reply alone: a long prompt is not read for them."""
    assert row(SamplingParams(max_tokens=9, frequency_penalty=1.0), generated=(5, 9, 9)) == {5: 1, 9: 2}


def test_the_largest_count() -> None:
    """What is said more often counts as said so often."""
    sampling = SamplingParams(max_tokens=99_999, presence_penalty=1.0)
    assert row(sampling, generated=(8,) * 40_000) == {8: MOST_TIMES}


def test_biases() -> None:
    """Behind the last one nothing is left of the row's last owner."""
    ids, bias = np.full(4, 9, np.int32), np.full(4, 9.0, np.float32)
    list_biases(SamplingParams(max_tokens=1, logit_bias=((3, -1.5), (7, 2.0))), ids, bias)
    assert ids.tolist() == [3, 7, -1, -1]
    assert bias.tolist() == [-1.5, 2.0, 0.0, 0.0]
