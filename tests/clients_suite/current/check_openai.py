"""The official Python SDK, which checks every answer and every chunk strictly against its own types."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from typing import Any, ClassVar, Literal

import openai
import pytest
from openai import AsyncOpenAI, OpenAI
from openai.types.responses import ResponseInputItemParam
from pictures import red_square
from pydantic import BaseModel

FRANCE = "What is the capital of France?"
PARIS = "The capital of France is Paris."
GREEDY: dict[str, Any] = {"temperature": 0, "max_tokens": 40}
WEATHER: dict[str, Any] = {
    "name": "get_weather",
    "description": "The weather of a city.",
    "parameters": {
        "type": "object",
        "properties": {"city": {"type": "string", "maxLength": 20}, "unit": {"type": "string", "enum": ["C", "F"]}},
        "required": ["city", "unit"],
        "additionalProperties": False,
    },
}
TOOL: Any = {"type": "function", "function": WEATHER}


class Person(BaseModel):
    """What replies are parsed into."""

    mood: Literal["good", "bad"]
    lucky: bool


class GetWeather(BaseModel):
    """The weather of a city."""

    city: Literal["Paris", "London"]
    unit: Literal["C", "F"]


def user(content: Any = FRANCE) -> list[Any]:
    return [{"role": "user", "content": content}]


@pytest.fixture
def client(base_url: str) -> Iterator[OpenAI]:
    """The SDK, strict."""
    with OpenAI(base_url=base_url, api_key="none", max_retries=0, _strict_response_validation=True) as client:
        yield client


@pytest.fixture
async def aclient(base_url: str) -> AsyncIterator[AsyncOpenAI]:
    """The same for asyncio."""
    async with AsyncOpenAI(
        base_url=base_url, api_key="none", max_retries=0, _strict_response_validation=True
    ) as client:
        yield client


class CheckChat:
    """`client.chat.completions`."""

    def test_create(self, client: OpenAI, model: str) -> None:
        """A whole answer with its usage."""
        reply = client.chat.completions.create(model=model, messages=user(), **GREEDY)
        assert reply.choices[0].message.content == PARIS
        assert reply.choices[0].finish_reason == "stop"
        assert reply.usage
        assert reply.usage.total_tokens == reply.usage.prompt_tokens + reply.usage.completion_tokens

    async def test_async_create(self, aclient: AsyncOpenAI, model: str) -> None:
        """The same from asyncio."""
        reply = await aclient.chat.completions.create(model=model, messages=user(), **GREEDY)
        assert reply.choices[0].message.content == PARIS

    def test_chunks(self, client: OpenAI, model: str) -> None:
        """Role, text, reason, usage, in that order, all under one id."""
        with client.chat.completions.create(
            model=model, messages=user(), stream=True, stream_options={"include_usage": True}, **GREEDY
        ) as stream:
            chunks = list(stream)
        assert len({(chunk.id, chunk.created, chunk.model) for chunk in chunks}) == 1
        assert chunks[0].choices[0].delta.role == "assistant"
        assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks[:-1]) == PARIS
        assert chunks[-2].choices[0].finish_reason == "stop"
        assert chunks[-1].choices == []
        assert chunks[-1].usage
        assert [chunk.usage for chunk in chunks[:-1]] == [None] * (len(chunks) - 1)

    async def test_async_chunks(self, aclient: AsyncOpenAI, model: str) -> None:
        """The same text from asyncio."""
        text = ""
        async for chunk in await aclient.chat.completions.create(model=model, messages=user(), stream=True, **GREEDY):
            text += chunk.choices[0].delta.content or ""
        assert text == PARIS

    def test_stream_helper(self, client: OpenAI, model: str) -> None:
        """`.stream()` gathers text, tools' events and the final completion."""
        with client.chat.completions.stream(model=model, messages=user(), **GREEDY) as stream:
            kinds = {event.type for event in stream}
            final = stream.get_final_completion()
        assert kinds >= {"chunk", "content.delta", "content.done"}
        assert final.choices[0].message.content == PARIS

    async def test_async_stream_helper(self, aclient: AsyncOpenAI, model: str) -> None:
        """The same from asyncio."""
        async with aclient.chat.completions.stream(model=model, messages=user(), **GREEDY) as stream:
            final = await stream.get_final_completion()
        assert final.choices[0].message.content == PARIS

    def test_parse(self, client: OpenAI, model: str) -> None:
        """`.parse()` gives the caller's own type."""
        reply = client.chat.completions.parse(model=model, messages=user(), response_format=Person, **GREEDY)
        assert isinstance(reply.choices[0].message.parsed, Person)

    async def test_async_parse(self, aclient: AsyncOpenAI, model: str) -> None:
        """The same from asyncio."""
        reply = await aclient.chat.completions.parse(model=model, messages=user(), response_format=Person, **GREEDY)
        assert isinstance(reply.choices[0].message.parsed, Person)

    def test_stream_parse(self, client: OpenAI, model: str) -> None:
        """`.stream()` with a type gives it at the end."""
        with client.chat.completions.stream(model=model, messages=user(), response_format=Person, **GREEDY) as stream:
            final = stream.get_final_completion()
        assert isinstance(final.choices[0].message.parsed, Person)

    def test_raw_response(self, client: OpenAI, model: str) -> None:
        """`.with_raw_response` shows the headers, the request's id among them."""
        raw = client.chat.completions.with_raw_response.create(
            model=model, messages=user(), extra_headers={"x-request-id": "from-the-client"}, **GREEDY
        )
        assert raw.headers["x-request-id"] == raw.request_id == "from-the-client"
        assert raw.parse().choices[0].message.content == PARIS

    def test_streaming_response(self, client: OpenAI, model: str) -> None:
        """`.with_streaming_response` gives the lines as they came, to `[DONE]`."""
        with client.chat.completions.with_streaming_response.create(
            model=model, messages=user(), stream=True, **GREEDY
        ) as raw:
            lines = [line for line in raw.iter_lines() if line.startswith("data: ")]
        assert lines[-1] == "data: [DONE]"
        assert all(json.loads(line.removeprefix("data: ")) for line in lines[:-1])

    def test_every_parameter(self, client: OpenAI, model: str) -> None:
        """All that OpenAI's signature knows and we honour or ignore may come at once."""
        reply = client.chat.completions.create(
            model=model,
            messages=[
                {"role": "developer", "content": "You are kind."},
                {"role": "user", "name": "ada", "content": [{"type": "text", "text": FRANCE}]},
            ],
            frequency_penalty=0.1, presence_penalty=0.1, logit_bias={"100": -100}, logprobs=True, top_logprobs=2,
            max_completion_tokens=20, metadata={"a": "b"}, modalities=["text"], n=2, parallel_tool_calls=True,
            prompt_cache_key="x", reasoning_effort="low", response_format={"type": "text"}, safety_identifier="x",
            seed=1, service_tier="auto", stop=["\n\n"], store=False, temperature=0.5, tool_choice="none",
            tools=[TOOL], top_p=0.9, user="x", verbosity="low", extra_body={"top_k": 10, "min_p": 0.01},
        )  # fmt: skip
        assert [choice.index for choice in reply.choices] == [0, 1]
        for choice in reply.choices:
            assert choice.logprobs
            assert choice.logprobs.content
            assert all(len(token.top_logprobs) == 2 for token in choice.logprobs.content)

    def test_streamed_logprobs(self, client: OpenAI, model: str) -> None:
        """They come with the text, one for each token."""
        tokens = []
        for chunk in client.chat.completions.create(
            model=model, messages=user(), stream=True, logprobs=True, top_logprobs=1, **GREEDY
        ):
            if chunk.choices[0].logprobs:
                tokens += chunk.choices[0].logprobs.content or []
        assert "".join(token.token for token in tokens) == PARIS
        assert all(token.top_logprobs[0].token == token.token for token in tokens)

    def test_image(self, client: OpenAI, model: str) -> None:
        """An `image_url` part reaches the model."""
        parts = [
            {"type": "text", "text": "What is it?"},
            {"type": "image_url", "image_url": {"url": red_square(), "detail": "auto"}},
        ]
        reply = client.chat.completions.create(model=model, messages=user(parts), **GREEDY)
        assert reply.usage
        assert reply.usage.prompt_tokens > 16
        assert "red" in (reply.choices[0].message.content or "")

    def test_json_object(self, client: OpenAI, model: str) -> None:
        """`json_object` is an object."""
        reply = client.chat.completions.create(
            model=model,
            messages=user("Give me JSON with name and age: Ada, 36."),
            response_format={"type": "json_object"},
            **GREEDY,
        )
        assert isinstance(json.loads(reply.choices[0].message.content or ""), dict)

    @pytest.mark.parametrize(
        "choice", ["required", {"type": "function", "function": {"name": "get_weather"}}], ids=["required", "named"]
    )
    def test_tool_call(self, client: OpenAI, model: str, choice: Any) -> None:
        """A forced call has arguments that its schema allows, and its result can be told."""
        messages = user("What is the weather in Paris?")
        reply = client.chat.completions.create(
            model=model, messages=messages, tools=[TOOL], tool_choice=choice, parallel_tool_calls=False, temperature=0
        )
        assert reply.choices[0].finish_reason == "tool_calls" or not isinstance(choice, str)
        (call,) = reply.choices[0].message.tool_calls or []
        assert call.type == "function"
        assert json.loads(call.function.arguments)["unit"] in {"C", "F"}
        messages += [
            reply.choices[0].message.to_dict(),
            {"role": "tool", "tool_call_id": call.id, "content": [{"type": "text", "text": "18 C"}]},
        ]
        after = client.chat.completions.create(model=model, messages=messages, tools=[TOOL], **GREEDY)
        assert after.choices[0].message.role == "assistant"

    def test_streamed_tool_call(self, client: OpenAI, model: str) -> None:
        """The stream helper puts the pieces of a call together to what can be parsed."""
        with client.chat.completions.stream(
            model=model, messages=user("Weather in Paris?"), tools=[TOOL], tool_choice="required", temperature=0
        ) as stream:
            kinds = {event.type for event in stream}
            final = stream.get_final_completion()
        assert "tool_calls.function.arguments.delta" in kinds
        assert "tool_calls.function.arguments.done" in kinds
        for call in final.choices[0].message.tool_calls or []:
            assert set(json.loads(call.function.arguments)) == {"city", "unit"}

    def test_parsed_tool_call(self, client: OpenAI, model: str) -> None:
        """`pydantic_function_tool` gives calls of the caller's own type."""
        reply = client.chat.completions.parse(
            model=model,
            messages=user("Weather in Paris?"),
            tools=[openai.pydantic_function_tool(GetWeather)],
            tool_choice="required",
            temperature=0,
        )
        calls = reply.choices[0].message.tool_calls
        assert calls
        assert all(isinstance(call.function.parsed_arguments, GetWeather) for call in calls)


class CheckErrors:
    """What the SDK raises."""

    def test_kinds(self, client: OpenAI, model: str) -> None:
        """Each is the SDK's own class with parameter and code."""
        with pytest.raises(openai.NotFoundError) as missing:
            client.chat.completions.create(model="gpt-9", messages=user())
        assert missing.value.code == "model_not_found"
        with pytest.raises(openai.BadRequestError) as long:
            client.chat.completions.create(model=model, messages=user("word " * 20_000))
        assert long.value.code == "context_length_exceeded"
        with pytest.raises(openai.BadRequestError) as hot:
            client.chat.completions.create(model=model, messages=user(), temperature=9)
        assert hot.value.param == "temperature"
        assert hot.value.request_id

    def test_unserved_endpoint(self, client: OpenAI) -> None:
        """What we do not have is a 404 like any other."""
        with pytest.raises(openai.NotFoundError):
            client.embeddings.create(model="x", input="x")

    def test_length_in_parse(self, client: OpenAI, model: str) -> None:
        """A reply cut off is told from one that cannot be parsed."""
        with pytest.raises(openai.LengthFinishReasonError):
            client.chat.completions.parse(
                model=model, messages=user(), response_format=Person, temperature=0, max_tokens=2
            )


class CheckCompletions:
    """`client.completions`."""

    @pytest.mark.parametrize("prompt", ["Once upon", ["Once", "upon"], [5, 6, 7], [[5, 6], [7]]])
    def test_prompts(self, client: OpenAI, model: str, prompt: Any) -> None:
        """Strings, lists and token ids."""
        reply = client.completions.create(model=model, prompt=prompt, max_tokens=4, temperature=0)
        assert len(reply.choices) == (2 if isinstance(prompt[0], list) or prompt[0] == "Once" else 1)

    def test_echo_and_logprobs(self, client: OpenAI, model: str) -> None:
        """`echo` repeats the prompt; `logprobs` are the old lists."""
        reply = client.completions.create(model=model, prompt="Once", echo=True, max_tokens=3, temperature=0)
        assert reply.choices[0].text.startswith("Once")
        told = client.completions.create(model=model, prompt="Once", logprobs=2, max_tokens=3, temperature=0)
        assert told.choices[0].logprobs
        assert len(told.choices[0].logprobs.tokens or []) == len(told.choices[0].logprobs.token_logprobs or [])

    def test_stream(self, base_url: str, model: str) -> None:
        """Chunks make up the whole text. (The SDK's strict type has no place for OpenAI's own null `finish_reason`.)"""
        with OpenAI(base_url=base_url, api_key="none", max_retries=0) as client:
            whole = client.completions.create(model=model, prompt="Once", max_tokens=8, temperature=0)
            stream = client.completions.create(model=model, prompt="Once", max_tokens=8, temperature=0, stream=True)
            assert "".join(chunk.choices[0].text for chunk in stream) == whole.choices[0].text

    async def test_async(self, aclient: AsyncOpenAI, model: str) -> None:
        """The same from asyncio."""
        reply = await aclient.completions.create(model=model, prompt="Once", max_tokens=4)
        assert reply.object == "text_completion"


class CheckResponses:
    """`client.responses`."""

    def test_create(self, client: OpenAI, model: str) -> None:
        """A whole response."""
        response = client.responses.create(model=model, input=FRANCE, temperature=0, max_output_tokens=40)
        assert response.output_text == PARIS
        assert response.status == "completed"
        assert response.usage

    async def test_async_create(self, aclient: AsyncOpenAI, model: str) -> None:
        """The same from asyncio."""
        response = await aclient.responses.create(model=model, input=FRANCE, temperature=0, max_output_tokens=40)
        assert response.output_text == PARIS

    def test_events(self, client: OpenAI, model: str) -> None:
        """OpenAI's order, numbered without a gap."""
        with client.responses.create(
            model=model, input=FRANCE, temperature=0, max_output_tokens=40, stream=True
        ) as stream:
            events = list(stream)
        assert [event.sequence_number for event in events] == list(range(len(events)))
        kinds = list(dict.fromkeys(event.type for event in events))
        assert kinds == [
            "response.created", "response.in_progress", "response.output_item.added", "response.content_part.added",
            "response.output_text.delta", "response.output_text.done", "response.content_part.done",
            "response.output_item.done", "response.completed",
        ]  # fmt: skip

    def test_stream_helper(self, client: OpenAI, model: str) -> None:
        """`.stream()` with a type ends in that type."""
        with client.responses.stream(model=model, input=FRANCE, text_format=Person, temperature=0) as stream:
            for _ in stream:
                pass
            final = stream.get_final_response()
        assert isinstance(final.output_parsed, Person)

    async def test_async_stream_helper(self, aclient: AsyncOpenAI, model: str) -> None:
        """The same from asyncio."""
        async with aclient.responses.stream(model=model, input=FRANCE, temperature=0) as stream:
            final = await stream.get_final_response()
        assert final.output_text == PARIS

    def test_parse(self, client: OpenAI, model: str) -> None:
        """`.parse()` gives the caller's own type."""
        response = client.responses.parse(model=model, input=FRANCE, text_format=Person, temperature=0)
        assert isinstance(response.output_parsed, Person)

    def test_calls(self, client: OpenAI, model: str) -> None:
        """A forced call, whose output is told in the next turn."""
        tools: Any = [{"type": "function", "strict": True, **WEATHER}]
        first = client.responses.create(
            model=model, input="Weather in Paris?", tools=tools, tool_choice="required", temperature=0
        )
        calls = [item for item in first.output if item.type == "function_call"]
        assert calls
        outputs: list[ResponseInputItemParam] = [
            {"type": "function_call_output", "call_id": call.call_id, "output": "18 C"} for call in calls
        ]
        second = client.responses.create(
            model=model, input=outputs, previous_response_id=first.id, tools=tools, max_output_tokens=40
        )
        assert second.previous_response_id == first.id

    def test_call_events(self, client: OpenAI, model: str) -> None:
        """A call's arguments come as deltas and whole."""
        tools: Any = [{"type": "function", "strict": True, **WEATHER}]
        stream = client.responses.create(
            model=model, input="Weather in Paris?", tools=tools, tool_choice="required", temperature=0, stream=True
        )
        told: dict[str, str] = {}
        for event in stream:
            if event.type == "response.function_call_arguments.delta":
                told[event.item_id] = told.get(event.item_id, "") + event.delta
            if event.type == "response.function_call_arguments.done":
                assert told[event.item_id] == event.arguments
                assert set(json.loads(event.arguments)) == {"city", "unit"}
        assert told

    def test_image(self, client: OpenAI, model: str) -> None:
        """An `input_image` part reaches the model."""
        parts: Any = [
            {"type": "input_text", "text": "What is it?"},
            {"type": "input_image", "image_url": red_square(), "detail": "auto"},
        ]
        response = client.responses.create(
            model=model, input=[{"role": "user", "content": parts}], temperature=0, max_output_tokens=40
        )
        assert "red" in response.output_text

    def test_store(self, client: OpenAI, model: str) -> None:
        """What is stored is retrieved, listed, continued and deleted."""
        made = client.responses.create(model=model, input="My name is Ada.", temperature=0, max_output_tokens=40)
        assert client.responses.retrieve(made.id).output_text == made.output_text
        items = list(client.responses.input_items.list(made.id))
        assert len(items) == 1
        again = client.responses.create(
            model=model, input="What is my name?", previous_response_id=made.id, temperature=0, max_output_tokens=40
        )
        assert "Ada" in again.output_text
        client.responses.delete(made.id)
        with pytest.raises(openai.NotFoundError):
            client.responses.retrieve(made.id)

    def test_retrieved_stream(self, client: OpenAI, model: str) -> None:
        """A response in the background can be followed, from where one was."""
        with client.responses.create(
            model=model, input=FRANCE, temperature=0, max_output_tokens=40, background=True, stream=True
        ) as stream:
            first = next(iter(stream))
        assert first.type == "response.created"
        with client.responses.retrieve(first.response.id, stream=True) as stream:
            events = list(stream)
        assert events[0] == first
        assert events[-1].type == "response.completed"
        with client.responses.retrieve(first.response.id, stream=True, starting_after=2) as stream:
            assert next(iter(stream)).sequence_number == 3

    def test_cancel(self, client: OpenAI, model: str) -> None:
        """A response in the background can be cancelled."""
        made = client.responses.create(
            model=model, input="Count to 100.", background=True, extra_body={"ignore_eos": True}
        )
        assert made.status in {"queued", "in_progress"}
        assert client.responses.cancel(made.id).status == "cancelled"

    def test_count(self, client: OpenAI, model: str) -> None:
        """`input_tokens.count` agrees with the usage."""
        counted = client.responses.input_tokens.count(model=model, input=FRANCE)
        used = client.responses.create(model=model, input=FRANCE, max_output_tokens=4).usage
        assert used
        assert counted.input_tokens == used.input_tokens


class CheckModels:
    """`client.models`."""

    def test_list_and_retrieve(self, client: OpenAI, model: str) -> None:
        """The list has what can be retrieved."""
        (only,) = list(client.models.list())
        assert only.id == model
        assert client.models.retrieve(model) == only
        assert only.to_dict()["max_model_len"] == 8192
        with pytest.raises(openai.NotFoundError):
            client.models.retrieve("gpt-9")

    async def test_async(self, aclient: AsyncOpenAI, model: str) -> None:
        """The same from asyncio."""
        assert [one.id async for one in aclient.models.list()] == [model]


class CheckDecisions:
    """`client.decisions`."""

    QUESTIONS: ClassVar[Any] = [
        {"type": "predicate", "name": "is_it", "instructions": "It is a city."},
        {"type": "choice", "instructions": "Which?", "choices": [{"value": "a"}, {"value": "b"}]},
        {"type": "score", "instructions": "How large?", "levels": [{"label": "small"}, {"label": "large"}]},
    ]

    def test_create(self, client: OpenAI, model: str) -> None:
        """One answer of its kind for each question."""
        decision = client.decisions.create(model=model, input="Paris", questions=self.QUESTIONS)
        assert [answer.type for answer in decision.answers] == ["predicate", "choice", "score"]

    async def test_async_create(self, aclient: AsyncOpenAI, model: str) -> None:
        """The same from asyncio."""
        decision = await aclient.decisions.create(model=model, input="Paris", questions=self.QUESTIONS)
        assert len(decision.answers) == 3
