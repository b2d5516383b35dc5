"""`/v1/messages` through Anthropic's own SDK, and byte by byte."""

from __future__ import annotations

import asyncio
import base64
from typing import Any

import httpx
from anthropic import Anthropic, AsyncAnthropic
from anthropic.types import MessageParam

from gemmad.supervisor.listener import Outlook
from tests.api.anthropic.events import events, put_together
from tests.api.stage import MODEL, Script, Stage
from tests.api.test_bad_input import PNG

URL = "/v1/messages"
HI: list[MessageParam] = [{"role": "user", "content": "Hi"}]
BODY: dict[str, Any] = {"model": MODEL, "max_tokens": 100, "messages": HI}


def prompt(stage: Stage) -> str:
    """What the worker was last asked to go on from."""
    return stage.text.tokenizer.decode(list(stage.worker.submits[-1].prompt.token_ids), skip_special_tokens=False)


def test_a_message(stage: Stage, claude: Anthropic) -> None:
    """A whole reply is what the SDK's types say, with counts, a reason and the request's id."""
    reply = claude.messages.create(model=MODEL, max_tokens=100, messages=HI)
    assert [block.text for block in reply.content if block.type == "text"] == ["Hello there."]
    assert (reply.role, reply.model, reply.stop_reason, reply.stop_sequence) == ("assistant", MODEL, "end_turn", None)
    assert reply.id.startswith("msg_")
    assert reply.usage.cache_read_input_tokens == 3
    assert reply.usage.input_tokens + 3 == len(stage.worker.submits[0].prompt.token_ids)
    assert reply.usage.output_tokens == len(stage.tokens("Hello there.")) + 1
    assert reply._request_id
    assert reply._request_id.startswith("req_")


def test_a_stream(claude: Anthropic) -> None:
    """The SDK puts a stream together to the same message."""
    whole = claude.messages.create(model=MODEL, max_tokens=100, messages=HI)
    with claude.messages.stream(model=MODEL, max_tokens=100, messages=HI) as stream:
        assert "".join(stream.text_stream) == "Hello there."
        streamed = stream.get_final_message()
        assert stream.request_id
    assert streamed.model_dump(exclude={"id"}) == whole.model_dump(exclude={"id"})


def test_a_stream_byte_by_byte(http: httpx.Client) -> None:
    """Every event is named, typed and in order, over server-sent events that nobody may store."""
    answer = http.post(URL, json=BODY | {"stream": True}, headers={"x-request-id": "mine"})
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["request-id"] == answer.headers["x-request-id"] == "mine"
    blocks, delta = put_together(events(answer.content))
    assert blocks == [{"type": "text", "text": "Hello there.", "json": ""}]
    assert delta["delta"] == {"stop_reason": "end_turn", "stop_sequence": None}


def test_asynchronously(stage: Stage) -> None:
    """The SDK for asyncio works as well."""

    async def ask() -> str:
        async with (
            AsyncAnthropic(base_url=stage.url, api_key="none", _strict_response_validation=True) as claude,
            claude.messages.stream(model=MODEL, max_tokens=100, messages=HI) as stream,
        ):
            return await stream.get_final_text()

    assert asyncio.run(ask()) == "Hello there."


def test_a_reply_without_words(stage: Stage, claude: Anthropic) -> None:
    """A model that ends its turn at once gives a message without blocks, which can be sent back."""
    stage.say("")
    reply = claude.messages.create(model=MODEL, max_tokens=100, messages=HI)
    assert reply.content == []
    with claude.messages.stream(model=MODEL, max_tokens=100, messages=[*HI, reply.to_param(), *HI]) as stream:
        assert stream.get_final_message().content == []


def test_silence(stage: Stage, http: httpx.Client) -> None:
    """While nothing is said pings come, the first after the message's head."""
    stage.say("Hello there.", pause_seconds=0.25)
    stream = http.post(URL, json=BODY | {"stream": True}).content
    assert stream.startswith(b"event: message_start\n")
    assert b'event: ping\ndata: {"type":"ping"}\n\n' in stream
    put_together(events(stream))


def test_what_is_said_to_the_model(stage: Stage, claude: Anthropic) -> None:
    """System and messages are the chat template's turns; a reply that was begun is gone on with."""
    turns: list[MessageParam] = [*HI, {"role": "assistant", "content": "The answer is"}]
    claude.messages.create(model=MODEL, max_tokens=100, system="Be brief.", messages=turns)
    assert prompt(stage).endswith("user\nBe brief.\n\nHi<end_of_turn>\n<start_of_turn>model\nThe answer is")


def test_stop_sequences(stage: Stage, claude: Anthropic) -> None:
    """The one that ended the reply is told, and is not in it."""
    stage.say("one two three")
    reply = claude.messages.create(model=MODEL, max_tokens=100, messages=HI, stop_sequences=["nine", " three"])
    assert (reply.stop_reason, reply.stop_sequence) == ("stop_sequence", " three")
    assert [block.text for block in reply.content if block.type == "text"] == ["one two"]


def test_the_limit(stage: Stage, claude: Anthropic) -> None:
    """Whether the request's limit ended the reply or the context did is told."""
    stage.play(Script(token_ids=stage.tokens("a b c d e f g h i j") * 40, at_once=50))
    reply = claude.messages.create(model=MODEL, max_tokens=2, messages=HI)
    assert (reply.stop_reason, reply.usage.output_tokens) == ("max_tokens", 2)
    stage.call(lambda: stage.worker.leave(Outlook.RETURNING))
    stage.call(lambda: stage.worker.arrive(max_context=64))
    reply = claude.messages.create(model=MODEL, max_tokens=32_000, messages=HI, timeout=20)
    assert reply.stop_reason == "model_context_window_exceeded"
    used = reply.usage
    assert used.input_tokens + (used.cache_read_input_tokens or 0) + used.output_tokens == 64


def test_how_it_is_sampled(stage: Stage, claude: Anthropic) -> None:
    """Fields that the newest SDK has no names for are honoured all the same."""
    extra = {"temperature": 0.5, "top_p": 0.25, "top_k": 7, "seed": 11}
    claude.messages.create(model=MODEL, max_tokens=9, messages=HI, extra_body=extra)
    sampling = stage.worker.submits[0].sampling
    assert (sampling.temperature, sampling.top_p, sampling.top_k, sampling.seed) == (0.5, 0.25, 7, 11)
    assert sampling.max_tokens == 9


def test_images(stage: Stage, claude: Anthropic) -> None:
    """A picture stands where it was shown."""
    data = base64.b64encode(PNG).decode()
    claude.messages.create(
        model=MODEL,
        max_tokens=9,
        messages=[
            {
                "role": "user",
                "content": [
                    {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": data}},
                    {"type": "text", "text": "What is it?"},
                ],
            }
        ],
    )
    assert len(stage.worker.submits[0].prompt.images) == 1


def test_counting(stage: Stage, claude: Anthropic) -> None:
    """What is counted is what the same request's prompt has, and no worker hears of it."""
    system = [{"type": "text", "text": "Be brief."}]
    counted = claude.messages.count_tokens(model=MODEL, messages=HI, system=system)  # type: ignore[arg-type]
    assert stage.worker.submits == []
    claude.messages.create(model=MODEL, max_tokens=9, messages=HI, system=system)  # type: ignore[arg-type]
    assert counted.input_tokens == len(stage.worker.submits[0].prompt.token_ids)


def test_the_beta_routes(claude: Anthropic) -> None:
    """What the SDK's beta methods and Claude Code put into the address and the headers is accepted."""
    reply = claude.beta.messages.create(model=MODEL, max_tokens=9, messages=HI, betas=["effort-2025-11-24"])  # type: ignore[arg-type]
    assert reply.stop_reason == "end_turn"
