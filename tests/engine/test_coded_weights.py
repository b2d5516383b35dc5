"""The bundled model with coded weights says what it says with its own numbers, for the most part."""

from __future__ import annotations

import functools

import pytest

from gemmad.demo import CHECKPOINT
from gemmad.engine.build import build_engine
from gemmad.generation import EngineSettings, SamplingParams, WeightFormat
from tests.engine.conversations import conversations
from tests.engine.oracle import Question, ask, network

MAX_TOKENS = 16


@functools.cache
def questions() -> tuple[Question, ...]:
    """Half of the conversations, pictures among them."""
    return tuple(ask(messages, max_tokens=MAX_TOKENS) for messages in conversations()[::2])


def replies(weights: WeightFormat) -> list[list[int]]:
    """Greedy ones to all questions, computed side by side."""
    stops = tuple(network().generation_config.eos_token_id)
    sampling = SamplingParams(temperature=0, max_tokens=MAX_TOKENS, stop_token_ids=stops)
    settings = EngineSettings(checkpoint=str(CHECKPOINT), weights=weights, kv_bytes=64 << 20)
    built = build_engine(settings, progress=lambda *_: None)
    built.warm_up()
    for number, question in enumerate(questions()):
        built.add(number, question.prompt, sampling, pixels=question.pixels)
    said: list[list[int]] = [[] for _ in questions()]
    while not built.idle:
        for output in built.step():
            said[output.request_id].extend(output.token_ids)
    built.check()
    return said


@pytest.mark.parametrize(("weights", "share"), [("int8", 0.97), ("fp8", 0.95), ("int4", 0.8)])
def test_most_tokens_are_the_same(weights: WeightFormat, share: float) -> None:
    """Greedy replies agree with those of plain numbers in that share of their tokens, counted up to the first that
    differs."""
    expected = [list(question.answer) for question in questions()]
    agreeing = 0
    for ours, theirs in zip(replies(weights), expected, strict=True):
        pairs = [a == b for a, b in zip(ours, theirs, strict=False)]
        agreeing += pairs.index(False) if False in pairs else len(pairs)
    assert agreeing >= share * sum(map(len, expected))
