"""`POST /v1/messages` and `POST /v1/messages/count_tokens`: Anthropic's words for the same path."""

from __future__ import annotations

import uuid
from functools import partial
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp

from gemmad.api.admission import Admission
from gemmad.api.anthropic import wire
from gemmad.api.anthropic.asking import counting_ask, messages_ask
from gemmad.api.anthropic.errors import REQUEST_ID_HEADER
from gemmad.api.anthropic.parameters import COUNT_TOKENS, MESSAGES, refuse_unsupported
from gemmad.api.anthropic.schema import CountRequest, MessagesRequest, parse
from gemmad.api.anthropic.voice import MessageVoice
from gemmad.api.asker import asker
from gemmad.api.body import decode_object, read_body
from gemmad.api.disconnect import unless_gone
from gemmad.api.record import Record, record_of
from gemmad.api.services import Services
from gemmad.api.stream import HEADERS, ReplyStream
from gemmad.api.whole import hear_out


class Messages:
    """The endpoints."""

    def __init__(self, services: Services, admission: Admission) -> None:
        self._services = services
        self._admission = admission

    async def create(self, http: Request) -> Response | ASGIApp:
        """A message, or a stream of its events. Raises what the table of errors translates."""
        record = record_of(http)
        body = await self._read(http)
        refuse_unsupported(MESSAGES, body)
        request = parse(MessagesRequest, body)
        record.stream = bool(request.stream)
        record.model = self._services.model_name(request.model)
        ask = messages_ask(request, model=record.model, max_images=self._services.media().max_images)
        reply = await unless_gone(http.receive, self._admission.admit(ask, record, key=asker(http)))
        ended = partial(self._admission.note_end, reply, record)
        message_id = record.response_id = f"msg_{uuid.uuid4().hex}"
        if request.stream:
            voice = MessageVoice(
                message_id,
                model=ask.model,
                max_tokens=request.max_tokens,
                request_id=record.request_id,
                usage=lambda: reply.usage,
            )
            headers = [*HEADERS, (REQUEST_ID_HEADER.encode(), record.request_id.encode())]
            ping_seconds = self._services.server().ping_every
            return ReplyStream(reply, voice, ping_seconds=ping_seconds, ended=ended, headers=headers)
        [said] = await hear_out(reply, http.receive, ended=ended)
        usage = reply.usage
        reason = wire.stop_reason(said.finish, stop=said.stop, usage=usage, max_tokens=request.max_tokens)
        message = wire.MessageBody(
            message_id, "assistant", ask.model, wire.content(said), reason, said.stop, wire.UsageBody.of(usage)
        )
        return _json(message, record)

    async def count_tokens(self, http: Request) -> Response:
        """How many tokens the same request's prompt has."""
        record = record_of(http)
        body = await self._read(http)
        refuse_unsupported(COUNT_TOKENS, body)
        request = parse(CountRequest, body)
        record.model = self._services.model_name(request.model)
        ask = counting_ask(request, model=record.model, max_images=self._services.media().max_images)
        return _json(wire.TokenCount(await self._admission.count(ask)), record)

    async def _read(self, http: Request) -> dict[str, Any]:
        return decode_object(await read_body(http, limit_bytes=self._services.server().max_body))


def _json(body: wire.MessageBody | wire.TokenCount, record: Record) -> Response:
    return Response(wire.encode(body), headers={REQUEST_ID_HEADER: record.request_id}, media_type="application/json")
