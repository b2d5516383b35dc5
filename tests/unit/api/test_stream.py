from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.types import Message

from gemmad.api.openai import wire
from gemmad.api.openai.stream import ChatVoice, Head
from gemmad.api.reply import Reply
from gemmad.api.speaker import Speaker
from gemmad.api.stream import STALLED_SECONDS, ReplyStream
from gemmad.demo import CHECKPOINT
from gemmad.dispatch.choices import Choices
from gemmad.dispatch.ticket import Request, Ticket
from gemmad.generation import FinishReason, Prompt, SamplingParams
from gemmad.text.checkpoint import TextModel
from gemmad.text.reply import ReplyText
from tests.fakes.clock import run_virtually, settle

HEAD = Head("chatcmpl-1", 2, "gemma")
TEXT = TextModel.load(CHECKPOINT, chat_template=None)
PING_SECONDS = 5.0
PING = b": still working\n\n"


class Played:
    """A stream of one reply, which a test says token by token; what came out and how it ended."""

    def __init__(self) -> None:
        bell = asyncio.Event()
        self.closed: list[Ticket] = []
        request = Request(prompt=Prompt((1, 2)), sampling=SamplingParams(max_tokens=90))
        self.ticket = Ticket(request, now=0.0, on_close=self.closed.append, bell=bell)
        reply = Reply(Choices([self.ticket], bell), [Speaker(0, ReplyText(TEXT))])
        self.endings: list[str | None] = []
        voice = ChatVoice(HEAD, size=1, include_usage=False)
        self.stream = ReplyStream(reply, voice, ping_seconds=PING_SECONDS, ended=self.endings.append)
        self.sent: list[bytes] = []
        self.gone = asyncio.Event()

    def say(self, text: str) -> None:
        self.ticket.say(tuple(TEXT.encode_plain([text])[0]), cached_tokens=0, now=0.0)

    async def serve(self, send: Callable[[Message], Awaitable[None]] | None = None) -> None:
        await self.stream({"type": "http"}, self._receive, send or self._send)

    async def _send(self, message: Message) -> None:
        self.sent.append(message.get("body", b""))

    async def _receive(self) -> Message:
        await self.gone.wait()
        return {"type": "http.disconnect"}


@given(st.text(), st.integers(0, 9))
def test_frames(text: str, index: int) -> None:
    """An event that is put together from its frame is the one that the whole chunk makes."""
    before, after = HEAD.frame(index)
    assert before + wire.encode(text) + after == wire.event(HEAD.chunk(index, wire.Delta(content=text)))


def play(script: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Time jumps from timer to timer."""
    run_virtually(lambda _clock: script())


def test_a_client_that_takes_nothing() -> None:
    """A stream that cannot be written for too long is cut and its reply closed."""

    async def script() -> None:
        played = Played()
        began = asyncio.get_running_loop().time()

        async def send(message: Message) -> None:
            if message["type"] == "http.response.body":
                await asyncio.Event().wait()

        played.say("Hello")
        await played.serve(send)
        assert asyncio.get_running_loop().time() - began == pytest.approx(STALLED_SECONDS)
        assert played.endings == ["client_stalled"]
        assert played.closed

    play(script)


def test_comments_come_in_silence() -> None:
    """A silent stream says so after each pause, then goes on with what the reply says, and ends as ever."""

    async def script() -> None:
        played = Played()
        serving = asyncio.create_task(played.serve())
        await asyncio.sleep(2.5 * PING_SECONDS)
        assert played.sent == [b"", PING, PING]
        played.say("Hello")
        await settle()
        assert b'"role":"assistant"' in played.sent[3]
        assert b'"content":"Hello"' in played.sent[3]
        played.ticket.end(FinishReason.STOP)
        await serving
        assert b"".join(played.sent).endswith(wire.DONE)
        assert played.endings == [None]

    play(script)


def test_a_client_that_leaves_a_silent_stream() -> None:
    """The reply is closed as soon as the client is gone; nothing is left running."""

    async def script() -> None:
        played = Played()
        serving = asyncio.create_task(played.serve())
        await settle()
        played.gone.set()
        await settle()
        assert serving.done()
        assert played.closed
        assert played.endings == [None]
        assert len(asyncio.all_tasks()) == 1

    play(script)
