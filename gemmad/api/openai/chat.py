"""`POST /v1/chat/completions`: validate, prepare, admit, and only then answer."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from functools import partial
from typing import Any

from starlette.requests import Request as HttpRequest
from starlette.responses import Response
from starlette.types import ASGIApp

from gemmad.api.admission import Admission
from gemmad.api.asker import asker
from gemmad.api.body import decode_object, read_body
from gemmad.api.disconnect import unless_gone
from gemmad.api.openai import wire
from gemmad.api.openai.chat_schema import ChatRequest
from gemmad.api.openai.conversation import chat_ask
from gemmad.api.openai.parameters import refuse_unsupported
from gemmad.api.openai.schema import parse
from gemmad.api.openai.stream import ChatVoice, Head
from gemmad.api.record import Record, record_of
from gemmad.api.reply import Reply
from gemmad.api.services import Services
from gemmad.api.stream import ReplyStream
from gemmad.api.whole import hear_out


class ChatCompletions:
    """The endpoint."""

    def __init__(self, services: Services, admission: Admission) -> None:
        self._services = services
        self._admission = admission

    async def create(self, http: HttpRequest) -> Response | ASGIApp:
        """A completion, or a stream of its chunks. Raises what the table of errors translates."""
        record = record_of(http)
        section = self._services.server()
        body = decode_object(await read_body(http, limit_bytes=section.max_body))
        chat = self._validate(body, record)
        ask = chat_ask(chat, model=record.model or chat.model, max_images=self._services.media().max_images)
        reply = await unless_gone(http.receive, self._admission.admit(ask, record, key=asker(http)))
        head = Head(f"chatcmpl-{uuid.uuid4().hex}", int(time.time()), ask.model)
        record.response_id = head.id
        ended = partial(self._admission.note_end, reply, record)
        if chat.stream:
            voice = ChatVoice(head, size=ask.n, include_usage=chat.includes_usage)
            return ReplyStream(reply, voice, ping_seconds=section.ping_every, ended=ended)
        return await self._complete(http, reply, head, ended)

    def _validate(self, body: dict[str, Any], record: Record) -> ChatRequest:
        refuse_unsupported(body)
        chat = parse(ChatRequest, body)
        record.stream = bool(chat.stream)
        chat.check_stream_options()
        record.model = self._services.model_name(chat.model)
        return chat

    async def _complete(
        self, http: HttpRequest, reply: Reply, head: Head, ended: Callable[[str | None], None]
    ) -> Response:
        said = await hear_out(reply, http.receive, ended=ended)
        choices = tuple(wire.Choice.of(index, each) for index, each in enumerate(said))
        usage = wire.UsageBody.of(reply.usage)
        body = wire.Completion(head.id, "chat.completion", head.created, head.model, choices, usage)
        return Response(wire.encode(body), media_type="application/json")
