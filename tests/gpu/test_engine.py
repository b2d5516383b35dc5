"""The engine on a GPU says what it says on a CPU."""

from __future__ import annotations

import pytest
import torch

from gemmad.demo import CHECKPOINT
from gemmad.engine.build import build_engine
from gemmad.generation import EngineSettings
from tests.engine.grammars import CountingGrammars
from tests.engine.test_oracle import answers, drain, questions, submit
from tests.engine.test_steering import assert_as_alone, mixture, run

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]


def test_wishes_are_granted_as_on_a_cpu() -> None:
    """Penalties, biases, log-probabilities and grammars, in a crowd and by graphs, are those of the CPU's engine."""
    settings = EngineSettings(
        checkpoint=str(CHECKPOINT), device="cuda:0", dtype="float32", max_sequences=8, kv_bytes=64 << 20
    )
    built = build_engine(settings, progress=lambda *_: None, grammars=CountingGrammars())
    built.warm_up()
    heard = run(built, mixture(24, seed=1))
    assert len(heard) == 24
    assert_as_alone(heard)


@pytest.mark.parametrize("chunk", [33, 2048])
def test_greedy_tokens_equal_transformers(chunk: int) -> None:
    """In float32 the bundled model gives transformers' tokens on a GPU too, batched and in chunks."""
    settings = EngineSettings(
        checkpoint=str(CHECKPOINT), device="cuda:0", dtype="float32", max_step_tokens=chunk, kv_bytes=256 << 20
    )
    built = build_engine(settings, progress=lambda *_: None)
    built.warm_up()
    said: dict[int, list[int]] = {}
    for number, question in enumerate(questions()):
        submit(built, number, question)
    drain(built, said)
    assert said == answers()
