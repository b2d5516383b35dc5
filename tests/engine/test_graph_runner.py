"""The graph runner says what the eager one says: its buckets, feeds, padding and heads, without a GPU.

What it records is done again instead of being replayed, on the same buffers.
"""

from __future__ import annotations

import random
from typing import Any

import pytest

from gemmad.demo import CHECKPOINT
from gemmad.engine.build import build_engine
from gemmad.engine.engine import Engine
from gemmad.engine.recording import RepeatRecorder
from gemmad.generation import EngineSettings
from tests.engine.test_oracle import answers, drain, questions, step, submit


def engine(*, overlap: bool, **settings: Any) -> Engine:
    """An engine whose steps go through buckets."""
    values: dict[str, Any] = {"checkpoint": str(CHECKPOINT)} | settings
    built = build_engine(EngineSettings(**values), progress=lambda *_: None, overlap=overlap, recorder=RepeatRecorder())
    built.warm_up()
    return built


@pytest.mark.parametrize(("overlap", "chunk"), [(True, 64), (True, 1000), (False, 100)])
def test_staggered(overlap: bool, chunk: int) -> None:
    """Requests that arrive while others are computed give transformers' tokens, also when fed on the device."""
    chance, said = random.Random(2), dict[int, list[int]]()
    built = engine(overlap=overlap, max_step_tokens=chunk, max_sequences=12)
    chosen = chance.sample(range(len(questions())), 20)
    for number in chosen:
        submit(built, number, questions()[number])
        for _ in range(chance.randrange(6)):
            step(built, said)
    drain(built, said)
    assert said == {number: answers()[number] for number in chosen}
