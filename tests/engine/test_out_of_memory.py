"""A step for which the device has no memory is computed smaller; nobody is lost by it."""

from __future__ import annotations

from collections.abc import Sequence as Many

import pytest
import torch

from gemmad.engine.runner import Launched, Runner
from gemmad.engine.scheduler import Chunk
from tests.engine.test_oracle import answers, drain, engine, questions, step, submit


class Cramped:
    """A runner that finds no memory, as torch says it, in the launches named."""

    def __init__(self, runner: Runner, *, fails_at: frozenset[int]) -> None:
        self._runner = runner
        self._fails_at = fails_at
        self.launches = 0
        self.sizes: list[int] = []

    def launch(self, chunks: Many[Chunk], previous: Launched | None) -> Launched:
        """As the runner it stands before, if at all."""
        self.launches += 1
        self.sizes.append(len(chunks))
        if self.launches in self._fails_at:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return self._runner.launch(chunks, previous)


@pytest.mark.parametrize("overlap", [False, True])
def test_fewer_sequences_are_computed_and_all_are_answered(overlap: bool) -> None:
    """The younger half gives way and comes back later: every reply is transformers'."""
    built, said = engine(overlap=overlap, max_step_tokens=200, max_sequences=8), dict[int, list[int]]()
    cramped = Cramped(built._runner, fails_at=frozenset({4, 9, 20}))
    built._runner = cramped
    for number in range(0, 24, 2):
        submit(built, number, questions()[number])
    drain(built, said)
    assert said == {number: answers()[number] for number in range(0, 24, 2)}
    assert built.load().preemptions > 0
    assert cramped.sizes[4] < cramped.sizes[3]


def test_a_second_failure_is_told_with_numbers() -> None:
    """When the smaller step does not fit either, the worker ends with a diagnosis."""
    built = engine()
    built._runner = Cramped(built._runner, fails_at=frozenset({1, 2}))
    submit(built, 1, questions()[0])
    with pytest.raises(RuntimeError, match=r"out of memory on the device: a step of \d+ tokens of 1 sequences did not"):
        step(built, {})
