"""The bundled model with coded weights says what it says with its own numbers, for the most part."""

from __future__ import annotations

import functools
from dataclasses import replace

import pytest
import torch

from gemmad.demo import CHECKPOINT
from gemmad.engine.build import build_engine
from gemmad.engine.memory import allocate_pools
from gemmad.generation import EngineSettings, SamplingParams, WeightFormat
from gemmad.kernels.ops import REFERENCE
from gemmad.models.config import read_config
from gemmad.models.gemma3 import Gemma3
from gemmad.models.weights import LayerWeights, random_weights
from gemmad.planning.pages import PagePlan
from tests.engine.conversations import conversations
from tests.engine.oracle import Question, ask, network

MAX_TOKENS = 16
MIXED: tuple[WeightFormat, WeightFormat] = ("int8", "int4")


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


def test_every_layout_is_among_the_layers_that_are_run_first() -> None:
    """What is recorded has run before, whatever mixture of formats a checkpoint comes in: of each pair of attention and
    formats one layer is run."""
    config, device = read_config(CHECKPOINT), torch.device("cpu")
    eight, four = (random_weights(config, device=device, dtype=torch.float32, format=kind) for kind in MIXED)

    def samples(layers: tuple[LayerWeights, ...]) -> tuple[int, ...]:
        plan = PagePlan(1, 1, full_page_bytes=0, sliding_page_bytes=0)
        pools = allocate_pools(config.text, plan, page_tokens=16, device=device, dtype=torch.float32)
        return Gemma3(config.text, replace(eight, layers=layers), pools, REFERENCE).sample_layers

    usual = samples(eight.layers)
    assert len(usual) == len(set(config.text.full_layers)) == 2
    odd = replace(eight.layers[4], down=four.layers[4].down)
    assert 4 not in usual
    assert samples((*eight.layers[:4], odd, *eight.layers[5:])) == tuple(sorted((*usual, 4)))
