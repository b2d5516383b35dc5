"""The engine says, token for token, what transformers' `generate` says, however its requests are batched."""

from __future__ import annotations

import functools
import random
from typing import Any

import pytest

from gemmad.demo import CHECKPOINT
from gemmad.engine.build import build_engine
from gemmad.engine.engine import Engine
from gemmad.generation import EngineSettings, SamplingParams
from tests.engine.conversations import conversations
from tests.engine.oracle import Question, ask, network

MAX_TOKENS = 16


@functools.cache
def questions() -> tuple[Question, ...]:
    """Asked once for the whole module."""
    return tuple(ask(messages, max_tokens=MAX_TOKENS) for messages in conversations())


def engine(*, overlap: bool = False, **settings: Any) -> Engine:
    """An engine over the bundled checkpoint."""
    values: dict[str, Any] = {"checkpoint": str(CHECKPOINT)} | settings
    built = build_engine(EngineSettings(**values), progress=lambda *_: None, overlap=overlap)
    built.warm_up()
    return built


def submit(built: Engine, number: int, question: Question) -> None:
    """Ask greedily, to end where transformers ends."""
    stops = tuple(network().generation_config.eos_token_id)
    sampling = SamplingParams(temperature=0, max_tokens=MAX_TOKENS, stop_token_ids=stops)
    built.add(number, question.prompt, sampling, pixels=question.pixels)


def drain(built: Engine, said: dict[int, list[int]]) -> None:
    """Step until nothing is left."""
    while not built.idle:
        step(built, said)
    built.check()


def step(built: Engine, said: dict[int, list[int]]) -> None:
    """One step's tokens to their requests."""
    for output in built.step():
        said.setdefault(output.request_id, []).extend(output.token_ids)


def answers() -> dict[int, list[int]]:
    """What transformers says."""
    return {number: list(question.answer) for number, question in enumerate(questions())}


def test_there_are_enough_and_they_are_of_every_kind() -> None:
    """At least 40 prompts, among them ones longer than the window and ones with several images."""
    window = network().config.text_config.sliding_window
    assert len(questions()) >= 40
    assert sum(len(q.prompt.token_ids) > 2 * window for q in questions()) >= 10
    assert sum(len(q.prompt.images) >= 2 for q in questions()) >= 4


def test_alone() -> None:
    """Each request by itself gives transformers' tokens."""
    built, said = engine(), dict[int, list[int]]()
    for number, question in enumerate(questions()):
        submit(built, number, question)
        drain(built, said)
    assert said == answers()


@pytest.mark.parametrize("chunk", [7, 33, 100, 1000])
def test_batched_in_chunks(chunk: int) -> None:
    """All at once, prompts cut into chunks of any size, gives transformers' tokens."""
    built, said = engine(max_step_tokens=chunk, max_sequences=16), dict[int, list[int]]()
    for number, question in enumerate(questions()):
        submit(built, number, question)
    drain(built, said)
    assert said == answers()


@pytest.mark.parametrize("overlap", [False, True])
def test_staggered(overlap: bool) -> None:
    """Requests that arrive while others are computed give transformers' tokens, also a step ahead of them."""
    chance, said = random.Random(1), dict[int, list[int]]()
    built = engine(overlap=overlap, max_step_tokens=64, max_sequences=12)
    for number in chance.sample(range(len(questions())), len(questions())):
        submit(built, number, questions()[number])
        for _ in range(chance.randrange(6)):
            step(built, said)
    drain(built, said)
    assert said == answers()


@pytest.mark.parametrize("overlap", [False, True])
def test_under_preemption(overlap: bool) -> None:
    """With pages for a few sequences only, requests are preempted and still give transformers' tokens."""
    page = 16 * 2 * 2 * 32 * 4 * 2  # 16 tokens of keys and values in one kind's layers
    context = 1216 + MAX_TOKENS
    built = engine(overlap=overlap, max_step_tokens=48, max_context=context, max_sequences=12, kv_bytes=100 * page)
    said: dict[int, list[int]] = {}
    chosen = range(0, len(questions()), 2)
    for number in chosen:
        submit(built, number, questions()[number])
    drain(built, said)
    assert built.load().preemptions > 0
    assert said == {number: answers()[number] for number in chosen}


def test_resumed_elsewhere() -> None:
    """A request that has said something in another engine goes on with the very next token."""
    built, said = engine(), dict[int, list[int]]()
    stops = tuple(network().generation_config.eos_token_id)
    sampling = SamplingParams(temperature=0, max_tokens=MAX_TOKENS, stop_token_ids=stops)
    for number, question in enumerate(questions()):
        if half := question.answer[: len(question.answer) // 2]:
            built.add(number, question.prompt, sampling, generated=half, pixels=question.pixels)
            said[number] = list(half)
    drain(built, said)
    assert said == {number: answer for number, answer in answers().items() if number in said}


@pytest.mark.parametrize("overlap", [False, True])
def test_cancelled_requests_cost_nobody(overlap: bool) -> None:
    """Requests dropped at any moment leave their pages, and the others' tokens stay right."""
    chance, said = random.Random(3), dict[int, list[int]]()
    built = engine(overlap=overlap, max_step_tokens=50, max_sequences=10)
    dropped = set(chance.sample(range(len(questions())), 15))
    for number, question in enumerate(questions()):
        submit(built, number, question)
    for number in sorted(dropped):
        for _ in range(chance.randrange(4)):
            step(built, said)
        built.abort(number)
    drain(built, said)
    kept = set(answers()) - dropped
    assert {number: said[number] for number in kept} == {number: answers()[number] for number in kept}
