"""Log-probabilities through the official SDK."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from openai import OpenAI
from openai.types.chat import ChatCompletionTokenLogprob

from gemmad.generation import TokenLogprobs
from tests.api.stage import MODEL, Script, Stage
from tests.api.test_chat import HI

ASK: Any = {"model": MODEL, "messages": HI, "logprobs": True, "top_logprobs": 2}


def say(stage: Stage, text: str, *, ended: bool = True, **how: Any) -> list[str]:
    """Token i of the reply has logprob -i, and is as likely as the one before it; what each token is called."""
    token_ids = stage.tokens(text)
    if ended:
        token_ids = (*token_ids, stage.text.stop_token_ids[-1])
    logprobs = tuple(
        TokenLogprobs(-float(at), (each, token_ids[at - 1]), (-float(at), -float("inf")))
        for at, each in enumerate(token_ids)
    )
    stage.play(Script(token_ids=token_ids, logprobs=logprobs, **how))
    return [stage.text.spelling[each].text for each in stage.tokens(text)]


def heard(client: OpenAI, *, stream: bool, **fields: Any) -> tuple[str, list[ChatCompletionTokenLogprob]]:
    """Text and log-probabilities of a reply."""
    if not stream:
        choice = client.chat.completions.create(**ASK, **fields).choices[0]
        assert choice.logprobs is not None
        return choice.message.content or "", choice.logprobs.content or []
    text = ""
    tokens: list[ChatCompletionTokenLogprob] = []
    for chunk in client.chat.completions.create(**ASK, **fields, stream=True):
        (choice,) = chunk.choices
        text += choice.delta.content or ""
        tokens += choice.logprobs.content or [] if choice.logprobs else []
    return text, tokens


@pytest.mark.parametrize("stream", [False, True])
def test_each_token_of_a_reply(stage: Stage, client: OpenAI, stream: bool) -> None:
    """Every token that is shown has its logarithm and the likeliest at its place; the end of the turn is none."""
    names = say(stage, "The circle is red.", pause_seconds=0.001)
    text, tokens = heard(client, stream=stream)
    assert text == "".join(token.token for token in tokens) == "The circle is red."
    assert [token.token for token in tokens] == names
    assert [token.logprob for token in tokens] == [-float(at) for at in range(len(names))]
    assert bytes(tokens[1].bytes or []).decode() == tokens[1].token
    assert [[top.token for top in token.top_logprobs] for token in tokens[1:]] == [
        [here, before] for before, here in pairwise(names)
    ]
    assert tokens[0].top_logprobs[1].logprob == -9999.0


def test_chunks_have_those_of_their_text(stage: Stage, client: OpenAI) -> None:
    """In a stream each chunk with text has the tokens that made it, the others none."""
    say(stage, "one two three", pause_seconds=0.01)
    for chunk in client.chat.completions.create(**ASK, stream=True):
        (choice,) = chunk.choices
        told = choice.logprobs.content if choice.logprobs else None
        assert "".join(token.token for token in told or []) == (choice.delta.content or "")


@pytest.mark.parametrize("stream", [False, True])
def test_what_a_stop_string_swallows(stage: Stage, client: OpenAI, stream: bool) -> None:
    """Tokens that a stop string swallows whole are not told, nor are they told before it is known not to come."""
    names = say(stage, "one two three four five", pause_seconds=0.001)
    text, tokens = heard(client, stream=stream, stop=[" three four"])
    assert text == "one two"
    assert [token.token for token in tokens] == names[: len(stage.tokens("one two"))]
    text, tokens = heard(client, stream=stream, stop=["three five"])
    assert text == "".join(token.token for token in tokens) == "one two three four five"


@pytest.mark.parametrize("stream", [False, True])
def test_parts_of_characters(stage: Stage, client: OpenAI, stream: bool) -> None:
    """Tokens that are a part of a character come with the character, and their bytes make it."""
    names = say(stage, "a 漢 🎈 b", pause_seconds=0.001)
    assert "�" in names
    text, tokens = heard(client, stream=stream)
    assert text == "a 漢 🎈 b"
    assert b"".join(bytes(token.bytes or []) for token in tokens).decode() == text


def test_a_reply_that_is_cut_off(stage: Stage, client: OpenAI) -> None:
    """At the length limit every token is told, those of half a character too."""
    say(stage, "漢", ended=False)
    text, tokens = heard(client, stream=False, max_tokens=2)
    assert len(tokens) == 2
    assert text == "��"


def test_none_unless_asked(stage: Stage, client: OpenAI) -> None:
    """Without logprobs there are none, and without top_logprobs no others."""
    reply = client.chat.completions.create(model=MODEL, messages=HI)
    assert reply.choices[0].logprobs is None
    assert stage.worker.submits[-1].sampling.logprobs is None
    stage.play(Script(token_ids=stage.tokens("one"), logprobs=(TokenLogprobs(-1.0),) * len(stage.tokens("one"))))
    alone = client.chat.completions.create(model=MODEL, messages=HI, logprobs=True)
    assert stage.worker.submits[-1].sampling.logprobs == 0
    assert alone.choices[0].logprobs is not None
    assert all(token.top_logprobs == [] for token in alone.choices[0].logprobs.content or [])


def test_the_stream_helper(stage: Stage, client: OpenAI) -> None:
    """The SDK's accumulating `.stream()` puts the log-probabilities together."""
    names = say(stage, "one two three", pause_seconds=0.001)
    with client.chat.completions.stream(**ASK) as stream:
        final = stream.get_final_completion()
    assert final.choices[0].logprobs is not None
    assert [token.token for token in final.choices[0].logprobs.content or []] == names
