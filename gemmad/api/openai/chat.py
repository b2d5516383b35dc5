"""`POST /v1/chat/completions`: validate, prepare, admit, and only then answer."""

from __future__ import annotations

import asyncio
import dataclasses
import time
import uuid
from collections.abc import Callable
from functools import partial
from typing import Any

from msgspec.structs import replace
from starlette.requests import Request as HttpRequest
from starlette.responses import Response
from starlette.types import ASGIApp

from gemmad.api.asker import asker
from gemmad.api.body import decode_object, read_body
from gemmad.api.disconnect import unless_gone
from gemmad.api.errors import GONE, answer
from gemmad.api.images import close_all, prepare_images
from gemmad.api.openai import wire
from gemmad.api.openai.conversation import (
    Conversation,
    choice_seed,
    conversation,
    room_in_context,
    sampling_params,
    stop_strings,
)
from gemmad.api.openai.parameters import refuse_unsupported
from gemmad.api.openai.schema import ChatRequest, parse_chat
from gemmad.api.openai.stream import Head, ReplyStream
from gemmad.api.record import Record, record_of
from gemmad.api.reply import Reply
from gemmad.api.services import Served, Services
from gemmad.dispatch.ticket import Request
from gemmad.errors import InvalidRequestError
from gemmad.generation import Prompt, SamplingParams
from gemmad.media.pixels import Pixels
from gemmad.text.chat import encode_chat
from gemmad.text.checkpoint import TextModel
from gemmad.text.reply import ReplyText

LONG_TEXT_CHARACTERS = 16_384
"""Text above this is tokenised in a thread: it takes longer than the event loop should stand still."""


class ChatCompletions:
    """The endpoint."""

    def __init__(self, services: Services) -> None:
        self._services = services

    async def create(self, http: HttpRequest) -> Response | ASGIApp:
        """A completion, or a stream of its chunks. Raises what the table of errors translates."""
        record = record_of(http)
        record.noteworthy = True
        section = self._services.server()
        body = decode_object(await read_body(http, limit_bytes=section.max_body))
        chat = self._validate(body, record)
        reply = await unless_gone(http.receive, self._admit(chat, record, key=asker(http)))
        head = Head(f"chatcmpl-{uuid.uuid4().hex}", int(time.time()), chat.model)
        ended = partial(self._note_end, reply, record)
        if chat.stream:
            include_usage = chat.stream_options is not None and chat.stream_options.include_usage is True
            return ReplyStream(reply, head, include_usage=include_usage, ping_seconds=section.ping_every, ended=ended)
        return await self._complete(http, reply, head, ended)

    def _validate(self, body: dict[str, Any], record: Record) -> ChatRequest:
        refuse_unsupported(body)
        chat = parse_chat(body)
        record.stream = bool(chat.stream)
        if chat.stream_options is not None and not chat.stream:
            raise InvalidRequestError("'stream_options' is only allowed when 'stream' is true.", param="stream_options")
        record.model = self._services.model_name(chat.model)
        return chat

    async def _admit(self, chat: ChatRequest, record: Record, *, key: str) -> Reply:
        """From here on a worker, or the queue, has the request."""
        served = self._services.ready()
        talk = conversation(chat, max_images=self._services.media().max_images)
        record.images = len(talk.images) or None
        pixels = await _pixels(served, talk)
        try:
            prompt = await _encode(served.text, talk, pixels)
            record.prompt_tokens = len(prompt.token_ids)
            stop, silent = stop_strings(chat), served.text.stop_token_ids
            texts = [ReplyText(served.text, stop=stop, stop_token_ids=silent) for _ in range(chat.n or 1)]
            sampling = self._sampling(chat, served.text, record.prompt_tokens)
            request = Request(
                prompt=prompt,
                sampling=sampling,
                pixels=pixels,
                request_id=record.request_id,
                key=key,
                priority=chat.priority or 0,
            )
            choices = self._services.dispatcher.submit_choices(_for_each_choice(request, len(texts)))
        except BaseException:
            close_all(pixels)
            raise
        return Reply(choices, texts, on_gap=self._services.metrics.inter_token.observe, clock=self._services.clock)

    def _sampling(self, chat: ChatRequest, text: TextModel, prompt_tokens: int) -> SamplingParams:
        max_context = self._services.max_context() or text.context_length
        return sampling_params(
            chat,
            section=self._services.sampling(),
            defaults=text.defaults,
            stop_token_ids=text.stop_token_ids,
            room=room_in_context(chat, prompt_tokens=prompt_tokens, max_context=max_context),
        )

    async def _complete(
        self, http: HttpRequest, reply: Reply, head: Head, ended: Callable[[str | None], None]
    ) -> Response:
        error: str | None = None
        try:
            said = await unless_gone(http.receive, reply.whole())
        except Exception as failure:
            error = answer(failure).error.code
            raise
        finally:
            reply.close()
            ended(error)
        choices = tuple(
            wire.Choice(index, wire.Message("assistant", text), None, finish.value)
            for index, (text, finish) in enumerate(said)
        )
        usage = wire.UsageBody.of(reply.usage)
        body = wire.Completion(head.id, "chat.completion", head.created, head.model, choices, usage)
        return Response(wire.encode(body), media_type="application/json")

    def _note_end(self, reply: Reply, record: Record, error: str | None) -> None:
        """For the log line and the metrics; `error` is the code that the client was told."""
        metrics = self._services.metrics
        usage = reply.usage
        record.completion_tokens, record.cached_tokens = usage.completion_tokens, usage.cached_tokens
        record.error = error
        if reply.first_token_at is not None:
            record.ttft_seconds = round(reply.first_token_at - record.began, 4)
            metrics.first_token.observe(record.ttft_seconds)
        if reply.finish is not None and error is None:
            record.finish = reply.finish.value
            metrics.whole_request.observe(self._services.clock() - record.began)
        else:
            record.finish = "gone" if error in (None, GONE) else "error"
        metrics.requests.labels(outcome=record.finish).inc()


def _for_each_choice(request: Request, count: int) -> list[Request]:
    seed = request.sampling.seed
    return [
        dataclasses.replace(request, sampling=replace(request.sampling, seed=choice_seed(seed, index)))
        for index in range(count)
    ]


async def _pixels(served: Served, talk: Conversation) -> tuple[Pixels, ...]:
    if not talk.images:
        return ()
    if served.media is None:
        raise InvalidRequestError("This model takes no images.", param=talk.images[0].param)
    return await prepare_images(served.media, talk.images)


async def _encode(text: TextModel, talk: Conversation, pixels: tuple[Pixels, ...]) -> Prompt:
    encode = partial(encode_chat, text, talk.messages, image_digests=[one.digest for one in pixels])
    return await asyncio.to_thread(encode) if talk.characters > LONG_TEXT_CHARACTERS else encode()
