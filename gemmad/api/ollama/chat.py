"""`POST /api/chat` and `POST /api/generate`: Ollama's words for the same path."""

from __future__ import annotations

from functools import partial
from typing import Any

from msgspec.structs import replace
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp

from gemmad.api.admission import Admission
from gemmad.api.asker import asker
from gemmad.api.asks import Ask
from gemmad.api.body import decode_object, read_body
from gemmad.api.disconnect import unless_gone
from gemmad.api.ollama import wire
from gemmad.api.ollama.asking import chat_ask, generate_ask
from gemmad.api.ollama.catalogue import model_name
from gemmad.api.ollama.parameters import OLLAMA_CHAT, OLLAMA_GENERATE, refuse_unsupported
from gemmad.api.ollama.schema import ChatRequest, GenerateRequest, StreamedRequest, parse
from gemmad.api.ollama.voice import HEADERS, LineVoice, Manner
from gemmad.api.pieces import Ending
from gemmad.api.record import Record, record_of
from gemmad.api.reply import Reply
from gemmad.api.services import Services
from gemmad.api.stream import ReplyStream
from gemmad.api.whole import hear_out
from gemmad.generation import Usage

_NANOSECONDS = 1_000_000_000


class Chat:
    """The endpoints that say something."""

    def __init__(self, services: Services, admission: Admission) -> None:
        self._services = services
        self._admission = admission

    async def chat(self, http: Request) -> Response | ASGIApp:
        """A message. Raises what the table of errors translates."""
        body = await self._read(http)
        refuse_unsupported(OLLAMA_CHAT, body)
        request = parse(ChatRequest, body)
        name = self._note(http, request)
        manner = Manner(request.model, chat=True)
        if not request.messages:
            return self._loaded(request, manner)
        ask = chat_ask(request, model=name, max_images=self._services.media().max_images)
        return await self._answer(http, ask, manner, streams=request.stream is not False)

    async def generate(self, http: Request) -> Response | ASGIApp:
        """What goes on from a prompt. Raises what the table of errors translates."""
        body = await self._read(http)
        refuse_unsupported(OLLAMA_GENERATE, body)
        request = parse(GenerateRequest, body)
        name = self._note(http, request)
        manner = Manner(request.model, chat=False)
        if not request.prompt and not request.images:
            return self._loaded(request, manner)
        ask = generate_ask(request, model=name, max_images=self._services.media().max_images)
        return await self._answer(http, ask, manner, streams=request.stream is not False)

    def _note(self, http: Request, request: StreamedRequest) -> str:
        record = record_of(http)
        record.stream = request.stream is not False
        record.model = model_name(self._services, request.model)
        return record.model

    def _loaded(self, request: StreamedRequest, manner: Manner) -> Response:
        """To a request that says nothing: the model is there, and stays. Raises UnavailableError while it loads."""
        self._services.ready()
        final = wire.Final("unload" if request.keep_alive in (0, "0", "0s") else "load")
        line = replace(manner.said(""), done=True, done_reason=final.done_reason)
        return Response(wire.encode(line), media_type="application/json")

    async def _answer(self, http: Request, ask: Ask, manner: Manner, *, streams: bool) -> Response | ASGIApp:
        record = record_of(http)
        reply = await unless_gone(http.receive, self._admission.admit(ask, record, key=asker(http)))
        ended = partial(self._admission.note_end, reply, record)
        if streams:
            voice = LineVoice(manner, final=partial(self._final, reply, record))
            ping_seconds = self._services.server().ping_every
            return ReplyStream(reply, voice, ping_seconds=ping_seconds, ended=ended, headers=HEADERS)
        [said] = await hear_out(reply, http.receive, ended=ended)
        line = manner.said(said.text, wire.tool_calls(said.calls), said.logprobs or ())
        body = manner.done(line, self._final(reply, record, said.finish, reply.usage))
        return Response(wire.encode(body), media_type="application/json")

    def _final(self, reply: Reply, record: Record, finish: Ending, usage: Usage) -> wire.Final:
        now = self._services.clock()
        first_token_at = now if reply.first_token_at is None else reply.first_token_at
        return wire.Final(
            wire.done_reason(finish),
            total_duration=int((now - record.began) * _NANOSECONDS),
            prompt_eval_count=usage.prompt_tokens,
            prompt_eval_duration=int((first_token_at - record.began) * _NANOSECONDS),
            eval_count=usage.completion_tokens,
            eval_duration=int((now - first_token_at) * _NANOSECONDS),
        )

    async def _read(self, http: Request) -> dict[str, Any]:
        return decode_object(await read_body(http, limit_bytes=self._services.server().max_body))
