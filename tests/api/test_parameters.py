"""Parameters of chat completions that a worker is told of, through the official SDK."""

from __future__ import annotations

from typing import Any

from openai import OpenAI
from openai.types.chat import ChatCompletionMessageParam

from gemmad.generation import SamplingParams
from tests.api.stage import MODEL, Stage

HI: list[ChatCompletionMessageParam] = [{"role": "user", "content": "Hi"}]


def sampling(stage: Stage) -> SamplingParams:
    """Of the last request."""
    return stage.worker.submits[-1].sampling


def test_penalties(stage: Stage, client: OpenAI) -> None:
    """Penalties reach the worker as they are; without them they are off."""
    client.chat.completions.create(model=MODEL, messages=HI)
    silent = sampling(stage)
    assert (silent.frequency_penalty, silent.presence_penalty, silent.repetition_penalty) == (0, 0, 1)
    client.chat.completions.create(
        model=MODEL,
        messages=HI,
        frequency_penalty=-2,
        presence_penalty=1.5,
        extra_body={"repetition_penalty": 1.1},
    )
    asked = sampling(stage)
    assert (asked.frequency_penalty, asked.presence_penalty, asked.repetition_penalty) == (-2, 1.5, 1.1)


def test_biases(stage: Stage, client: OpenAI) -> None:
    """Biases have ids as strings for keys and reach the worker in the order of the ids."""
    client.chat.completions.create(model=MODEL, messages=HI, logit_bias={"50": -100, "7": 3})
    assert sampling(stage).logit_bias == ((7, 3.0), (50, -100.0))


def test_all_ignored_fields(stage: Stage, client: OpenAI) -> None:
    """What new SDKs send and what has no meaning here is accepted."""
    client.chat.completions.create(
        model=MODEL,
        messages=HI,
        user="u",
        metadata={"a": "b"},
        store=True,
        service_tier="auto",
        prompt_cache_key="k",
        safety_identifier="s",
        verbosity="low",
        reasoning_effort="low",
        prediction={"type": "content", "content": "Hello"},
        extra_body={"something_new": {"a": [1]}},
    )
    assert len(stage.worker.submits) == 1


def prompt(stage: Stage) -> str:
    """Of the last request, with its control tokens."""
    return stage.text.decode(stage.worker.submits[-1].prompt.token_ids, control_tokens=True)


def test_prefill(stage: Stage, client: OpenAI) -> None:
    """With continue_final_message the reply goes on with the assistant's last words, in the same turn."""
    begun: list[ChatCompletionMessageParam] = [*HI, {"role": "assistant", "content": "Once upon"}]
    more: Any = {"continue_final_message": True, "add_generation_prompt": False}
    client.chat.completions.create(model=MODEL, messages=begun, extra_body=more)
    assert prompt(stage).endswith("<start_of_turn>model\nOnce upon")
    client.chat.completions.create(model=MODEL, messages=begun, extra_body={"continue_final_message": True})
    assert prompt(stage).endswith("<start_of_turn>model\nOnce upon")
    client.chat.completions.create(model=MODEL, messages=begun)
    assert prompt(stage).endswith("Once upon<end_of_turn>\n<start_of_turn>model\n")


def test_a_refusal_in_the_history(stage: Stage, client: OpenAI) -> None:
    """What an assistant said when it refused is a part of what was said."""
    said: list[ChatCompletionMessageParam] = [
        *HI,
        {"role": "assistant", "content": [{"type": "refusal", "refusal": "I would rather not."}]},
        {"role": "user", "content": "Please"},
    ]
    client.chat.completions.create(model=MODEL, messages=said)
    assert "I would rather not.<end_of_turn>" in prompt(stage)
