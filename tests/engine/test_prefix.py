"""What pages hold already is not computed again, and nobody can tell from the tokens: transformers is the judge."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest

from gemmad.engine.engine import Engine
from gemmad.generation import ImageSpan, Prompt, SamplingParams
from gemmad.protocol.messages import Output
from tests.engine.conversations import FILLER, Messages, image, text, turn
from tests.engine.oracle import Question, ask, network, processor
from tests.engine.test_graph_runner import engine as graph_engine
from tests.engine.test_oracle import MAX_TOKENS, answers, drain, engine, questions, submit

PAGE = 16


def serve(built: Engine, asked: dict[int, Question]) -> tuple[dict[int, list[int]], dict[int, int]]:
    """All at once: what each is told, and how many tokens of its prompt were found. Only first outputs tell that."""
    said: dict[int, list[int]] = {}
    found: dict[int, int] = {}
    for number, question in asked.items():
        submit(built, number, question)
    while not built.idle:
        for output in built.step():
            found.setdefault(output.request_id, output.cached_tokens)
            assert not (output.cached_tokens and output.request_id in said)
            said.setdefault(output.request_id, []).extend(output.token_ids)
    built.check()
    return said, found


def alone(built: Engine, question: Question) -> int:
    """One request by itself, whose tokens must be transformers'. Returns what it found."""
    said, found = serve(built, {1: question})
    assert said == {1: list(question.answer)}
    return found[1]


def whole_pages(question: Question) -> int:
    """Tokens of a prompt in the pages that a hit can cover: one token at least is left."""
    return (len(question.prompt.token_ids) - 1) // PAGE * PAGE


@pytest.mark.parametrize(("build", "overlap"), [(engine, False), (engine, True), (graph_engine, True)])
def test_everything_twice(build: Callable[..., Engine], overlap: bool) -> None:
    """Where pages are many, the second time all whole pages of every prompt are found, and the tokens are the same."""
    built = build(overlap=overlap, max_step_tokens=1000, max_sequences=16)
    asked = dict(enumerate(questions()))
    assert built.capacity.sliding_pages > sum(len(q.prompt.token_ids) + MAX_TOKENS for q in asked.values()) // PAGE
    assert serve(built, asked)[0] == answers()
    before = built.load()
    said, found = serve(built, asked)
    after = built.load()
    assert said == answers()
    assert found == {number: whole_pages(question) for number, question in asked.items()}
    assert after.prompt_tokens - before.prompt_tokens == sum(len(q.prompt.token_ids) for q in asked.values())
    assert after.cached_tokens - before.cached_tokens == sum(found.values())
    assert after.prefilled_tokens - before.prefilled_tokens < PAGE * len(asked)


@pytest.mark.parametrize("overlap", [False, True])
def test_staggered(overlap: bool) -> None:
    """Requests that come again and again while others are computed, and some that leave, get transformers' tokens."""
    chance, said = random.Random(5), dict[int, list[int]]()
    built = engine(overlap=overlap, max_step_tokens=48, max_sequences=8)
    expected = {}
    for number in range(150):
        asked = chance.randrange(len(questions()))
        submit(built, number, questions()[asked])
        for _ in range(chance.randrange(4)):
            for output in built.step():
                said.setdefault(output.request_id, []).extend(output.token_ids)
        if chance.random() < 0.2:
            built.abort(number)
        else:
            expected[number] = answers()[asked]
    drain(built, said)
    assert {number: said[number] for number in expected} == expected
    assert built.load().cached_tokens > 0


@pytest.mark.parametrize("overlap", [False, True])
def test_under_preemption(overlap: bool) -> None:
    """With pages for a few sequences only, so that pages are evicted and requests set back, tokens stay right."""
    page = 16 * 2 * 2 * 32 * 4 * 2  # 16 tokens of keys and values in one kind's layers
    context = 1216 + MAX_TOKENS
    built = engine(overlap=overlap, max_step_tokens=48, max_context=context, max_sequences=12, kv_bytes=100 * page)
    asked = {number: questions()[number] for number in range(0, len(questions()), 2)}
    for _ in range(2):
        assert serve(built, asked)[0] == {number: answers()[number] for number in asked}
    load = built.load()
    assert load.preemptions > 0
    assert load.cached_tokens > 0


@pytest.mark.parametrize("overlap", [False, True])
def test_turn_after_turn(overlap: bool) -> None:
    """Each turn of a chat with pictures finds all of the last turn's prompt, but for its last page."""
    built = engine(overlap=overlap, max_step_tokens=64)
    messages: Messages = [turn("system", text(FILLER * 4))]
    known = 0
    for number in range(1, 5):
        messages.append(turn("user", text(FILLER), image(number), text("What is in the picture?")))
        question = ask(messages, max_tokens=MAX_TOKENS)
        assert alone(built, question) >= known
        known = whole_pages(question)
        reply = processor().tokenizer.decode(question.answer, skip_special_tokens=True)
        messages.append(turn("model", text(reply)))
    assert known > 5 * PAGE


def picture_and(words: str, *, seed: int, first: bool = True) -> Question:
    """A picture, all of one size, and words about it."""
    parts = [image(1) | {"image": image(seed)["image"].resize((64, 64))}, text(words)]
    return ask([turn("user", *(parts if first else reversed(parts)))], max_tokens=MAX_TOKENS)


def test_another_picture_is_no_hit() -> None:
    """Prompts whose token ids are all equal share nothing from the picture on."""
    one, other = (picture_and("What is in the picture?", seed=seed) for seed in (1, 2))
    assert one.prompt.token_ids == other.prompt.token_ids
    assert one.prompt.images != other.prompt.images
    built = engine()
    assert alone(built, one) == 0
    assert alone(built, other) <= other.prompt.images[0].start
    assert alone(built, one) == alone(built, other) == whole_pages(one)


def test_another_question_about_a_picture() -> None:
    """A hit that ends inside the picture is gone on with from there."""
    one, other = picture_and("What is in the picture?", seed=3), picture_and("Tell me a story.", seed=3)
    span = one.prompt.images[0]
    built = engine()
    alone(built, one)
    assert span.start < alone(built, other) < span.start + span.length


@pytest.mark.parametrize("build", [engine, graph_engine])
def test_the_last_token_of_a_picture(build: Callable[..., Engine]) -> None:
    """Where a picture ends the prompt and all but its last token is found, the one token is still the picture's."""
    size = network().config.mm_tokens_per_image
    asked = next(q for q in questions() if q.prompt.images)
    text_ids = questions()[9].prompt.token_ids[: 3 * PAGE + 1 - size]
    span = ImageSpan(len(text_ids), size, asked.prompt.images[0].digest)
    prompt = Prompt((*text_ids, *(asked.prompt.token_ids[asked.prompt.images[0].start],) * size), (span,))
    built, said, found = build(overlap=False), list[list[int]](), list[int]()
    for number in range(2):
        built.add(number, prompt, SamplingParams(temperature=0, max_tokens=8), pixels=asked.pixels[:1])
        outputs: list[Output] = []
        while not built.idle:
            outputs += built.step()
        said.append([token for output in outputs for token in output.token_ids])
        found.append(outputs[0].cached_tokens)
    assert found == [0, 3 * PAGE]
    assert said[0] == said[1]


def test_a_found_picture_is_not_looked_at() -> None:
    """A picture that pages hold is neither encoded nor looked up: the encoder may have forgotten it."""
    question = picture_and(f"{FILLER}What is in the picture?", seed=4)
    span = question.prompt.images[0]
    built = engine()
    alone(built, question)
    assert built._encoder is not None
    built._encoder.images.fill_(float("nan"))
    assert alone(built, question) >= span.start + span.length


def test_a_request_that_moved_here() -> None:
    """One that has said something elsewhere finds its prompt, and no more than that is told."""
    built = engine()
    question = max(questions(), key=lambda q: len(q.answer))
    alone(built, question)
    half = question.answer[: len(question.answer) // 2]
    sampling = SamplingParams(temperature=0, max_tokens=len(question.answer))
    built.add(1, question.prompt, sampling, generated=half, pixels=question.pixels)
    said: list[int] = []
    found: list[int] = []
    while not built.idle:
        for output in built.step():
            said += output.token_ids
            found.append(output.cached_tokens)
    assert said == list(question.answer[len(half) :])
    assert whole_pages(question) <= found[0] <= len(question.prompt.token_ids)
    assert set(found[1:]) <= {0}


@pytest.mark.parametrize("settings", [{}, {"prefix_cache": False}])
def test_what_nobody_asked_is_not_found(settings: dict[str, Any]) -> None:
    """The warm-up leaves nothing behind; and where the cache is off, nobody does."""
    built = engine(**settings)
    assert (built.load().prompt_tokens, built.load().cached_tokens) == (0, 0)
    zeros = Prompt((0,) * (3 * PAGE + 1))
    found = []
    for number in range(2):
        built.add(number, zeros, SamplingParams(temperature=0, max_tokens=1))
        while not built.idle:
            found += [output.cached_tokens for output in built.step()]
    assert found == [0, 0 if settings else 3 * PAGE]
    assert built.load().prompt_tokens == 2 * len(zeros.token_ids)
