"""`/v1/completions` through the official SDK."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
from openai import BadRequestError, OpenAI
from openai.types import Completion

from gemmad.generation import TokenLogprobs
from gemmad.protocol.messages import Submit
from tests.api.stage import MODEL, Script, Stage
from tests.api.test_bad_input import refused
from tests.api.test_wire import events
from tests.clients import run_async

URL = "/v1/completions"
GOOD: dict[str, Any] = {"model": MODEL, "prompt": "Once upon"}


def test_a_completion(stage: Stage, client: OpenAI) -> None:
    """A text is gone on with as it stands, behind the beginning-of-text token, for 16 tokens if not told."""
    stage.say(" a time.")
    reply = client.completions.create(model=MODEL, prompt="Once upon")
    assert reply.choices[0].text == " a time."
    assert reply.choices[0].finish_reason == "stop"
    assert (reply.object, reply.model) == ("text_completion", MODEL)
    submit = stage.worker.submits[0]
    assert submit.prompt.token_ids == (stage.text.bos_id, *stage.tokens("Once upon"))
    assert submit.sampling.max_tokens == 16
    assert reply.usage is not None
    assert reply.usage.prompt_tokens == len(submit.prompt.token_ids)
    assert reply.usage.completion_tokens == len(stage.tokens(" a time.")) + 1


def test_control_tokens_are_the_clients(stage: Stage, client: OpenAI) -> None:
    """Clients that lay out their own turns can: control tokens in a prompt are such, and the first is not doubled."""
    laid_out = "<bos><start_of_turn>user\nHi<end_of_turn>\n<start_of_turn>model\n"
    client.completions.create(model=MODEL, prompt=laid_out)
    client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": "Hi"}])
    bare, templated = (submit.prompt.token_ids for submit in stage.worker.submits)
    assert bare == templated


def test_kinds_of_prompts(stage: Stage, client: OpenAI) -> None:
    """A prompt is a string, token ids, or several of either; ids are taken as they are."""
    ids = list(stage.tokens("Once upon"))
    begun = (stage.text.bos_id, *ids)
    for prompt, prompts in (
        ("Once upon", [begun]),
        (["Once upon", "Once upon"], [begun, begun]),
        (ids, [tuple(ids)]),
        ([ids, ids[:1]], [tuple(ids), tuple(ids[:1])]),
        ("", [(stage.text.bos_id,)]),
    ):
        stage.worker.submits.clear()
        reply = client.completions.create(model=MODEL, prompt=prompt)
        assert [submit.prompt.token_ids for submit in stage.worker.submits] == prompts
        assert [choice.index for choice in reply.choices] == list(range(len(prompts)))
        assert reply.usage is not None
        assert reply.usage.prompt_tokens == sum(map(len, prompts))


def say_seeds(stage: Stage) -> None:
    """Each choice says its prompt's last word and its seed."""

    def script(submit: Submit) -> Script:
        said = stage.tokens(f" {len(submit.prompt.token_ids)}-{submit.sampling.seed}")
        return Script(token_ids=(*said, stage.text.stop_token_ids[-1]), pause_seconds=0.001)

    stage.play(script)


@pytest.mark.parametrize("stream", [False, True])
def test_choices_of_several_prompts(stage: Stage, client: OpenAI, stream: bool) -> None:
    """Choices are counted through, prompt by prompt; with echo each stands behind its own prompt."""
    say_seeds(stage)
    fields: Any = {"model": MODEL, "prompt": ["a", "a b"], "n": 2, "best_of": 2, "seed": 5, "echo": True}
    texts = [""] * 4
    if stream:
        for chunk in client.completions.create(**fields, stream=True):
            (choice,) = chunk.choices
            texts[choice.index] += choice.text
    else:
        for choice in client.completions.create(**fields).choices:
            texts[choice.index] = choice.text
    one, two = (len(stage.tokens(prompt)) + 1 for prompt in ("a", "a b"))
    assert texts == [f"a {one}-5", f"a {one}-6", f"a b {two}-5", f"a b {two}-6"]


def test_a_stream(stage: Stage, http: httpx.Client) -> None:
    """Chunks have text, then a reason, then the usage if it was asked for, then DONE; heads are all the same."""
    stage.say(" a time.", pause_seconds=0.001)
    body = {**GOOD, "stream": True, "stream_options": {"include_usage": True}}
    *chunks, done = events(http.post(URL, json=body).text)
    assert done == "[DONE]"
    *texts, last, usage = [json.loads(chunk) for chunk in chunks]
    assert "".join(chunk["choices"][0]["text"] for chunk in texts) == " a time."
    assert all(chunk["choices"][0]["finish_reason"] is None for chunk in texts)
    assert last["choices"] == [{"index": 0, "text": "", "logprobs": None, "finish_reason": "stop"}]
    assert usage["choices"] == []
    assert usage["usage"]["completion_tokens"] == len(stage.tokens(" a time.")) + 1
    assert all("usage" not in chunk for chunk in (*texts, last))
    assert len({(chunk["id"], chunk["object"], chunk["created"], chunk["model"]) for chunk in (*texts, usage)}) == 1


@pytest.mark.parametrize("stream", [False, True])
def test_logprobs(stage: Stage, client: OpenAI, stream: bool) -> None:
    """Lists of equal length: tokens, their logarithms, the likeliest with the token itself, and where each begins."""
    token_ids = stage.tokens("one 🎈 two")
    likely = stage.tokens("x")[0]
    logprobs = tuple(TokenLogprobs(-1.5, (likely,), (-0.5,)) for _ in token_ids)
    stage.play(Script(token_ids=token_ids, logprobs=logprobs, pause_seconds=0.001))
    tokens: list[str] = []
    offsets: list[int] = []
    fields: Any = {**GOOD, "logprobs": 1, "max_tokens": len(token_ids)}
    parts = client.completions.create(**fields, stream=True) if stream else [client.completions.create(**fields)]
    for part in parts:
        told = part.choices[0].logprobs
        if told is not None:
            assert told.token_logprobs == [-1.5] * len(told.tokens or [])
            assert all(
                set(top) == {"x", token} for top, token in zip(told.top_logprobs or [], told.tokens or [], strict=True)
            )
            tokens += told.tokens or []
            offsets += told.text_offset or []
    assert len(tokens) == len(token_ids)
    assert tokens[0] == "one"
    assert [token for token in tokens if token.startswith("bytes:\\x")]
    assert offsets[0] == 0
    assert offsets[-1] == len("one 🎈 two") - len(tokens[-1])
    assert offsets == sorted(offsets)


def test_strict_types(stage: Stage) -> None:
    """Completions pass the SDK's own types when it validates strictly. (Its type of a chunk has no place for the null
    that OpenAI sends as its reason.) The asyncio SDK reads streams too."""
    with stage.client(_strict_response_validation=True) as client:
        assert isinstance(client.completions.create(**GOOD), Completion)

    async def talk() -> str:
        async with stage.async_client() as client:
            stream = await client.completions.create(**GOOD, stream=True)
            return "".join([chunk.choices[0].text async for chunk in stream])

    assert run_async(talk()) == "Hello there."


@pytest.mark.parametrize(
    ("change", "param", "code"),
    [
        ({"prompt": None}, "prompt", "invalid_type"),
        ({"prompt": 5}, "prompt", "invalid_type"),
        ({"prompt": []}, "prompt", "invalid_value"),
        ({"prompt": [[]]}, "prompt[0]", "invalid_value"),
        ({"prompt": [1, "a"]}, "prompt", "invalid_value"),
        ({"prompt": ["a", 1]}, "prompt[1]", "invalid_type"),
        ({"prompt": [-1]}, "prompt", "invalid_value"),
        ({"prompt": [[1], [2, 10**6]]}, "prompt[1]", "invalid_value"),
        ({"prompt": ["a"] * 129}, "prompt", "invalid_value"),
        ({"prompt": ["a"] * 65, "n": 2}, "n", None),
        ({"suffix": "the end"}, "suffix", "unsupported_parameter"),
        ({"best_of": 2}, "best_of", "unsupported_parameter"),
        ({"n": 2, "best_of": 3}, "best_of", "unsupported_parameter"),
        ({"echo": True, "logprobs": 0}, "logprobs", "unsupported_parameter"),
        ({"logprobs": 21}, "logprobs", "invalid_value"),
        ({"max_tokens": 0}, "max_tokens", "invalid_value"),
        ({"stream_options": {}}, "stream_options", None),
    ],
)
def test_wrong_values(http: httpx.Client, change: dict[str, Any], param: str, code: str | None) -> None:
    """What cannot be honoured is a 400 that names its field."""
    error = refused(http.post(URL, json=GOOD | change))
    assert (error["param"], error["code"]) == (param, code)


def test_a_prompt_over_the_context(stage: Stage, client: OpenAI) -> None:
    """Of several prompts the one that is too long is named, and none is begun."""
    with pytest.raises(BadRequestError) as caught:
        client.completions.create(model=MODEL, prompt=["a", "word " * 9000])
    assert (caught.value.code, caught.value.param) == ("context_length_exceeded", "prompt[1]")
    assert stage.worker.submits == []
