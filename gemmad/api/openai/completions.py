"""`POST /v1/completions`: text that goes on with text, or with token ids."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Iterator
from functools import partial

from starlette.requests import Request as HttpRequest
from starlette.responses import Response
from starlette.types import ASGIApp

from gemmad.api.admission import Admission
from gemmad.api.asker import asker
from gemmad.api.asks import Ask, Names, PlainText, TokenIds, Wishes
from gemmad.api.body import decode_object, read_body
from gemmad.api.disconnect import unless_gone
from gemmad.api.openai import wire
from gemmad.api.openai.completion_schema import CompletionRequest
from gemmad.api.openai.completion_wire import Offsets, TextChoice, TextHead, TextVoice
from gemmad.api.openai.parameters import COMPLETION, refuse_unsupported
from gemmad.api.openai.schema import parse
from gemmad.api.record import record_of
from gemmad.api.services import Services
from gemmad.api.stream import ReplyStream
from gemmad.api.whole import hear_out

USUAL_MAX_TOKENS = 16
"""OpenAI's."""


class Completions:
    """The endpoint."""

    def __init__(self, services: Services, admission: Admission) -> None:
        self._services = services
        self._admission = admission

    async def create(self, http: HttpRequest) -> Response | ASGIApp:
        """A completion, or a stream of its chunks. Raises what the table of errors translates."""
        record = record_of(http)
        section = self._services.server()
        body = decode_object(await read_body(http, limit_bytes=section.max_body))
        refuse_unsupported(body, COMPLETION)
        asked = parse(CompletionRequest, body)
        asked.check()
        record.stream = bool(asked.stream)
        record.model = self._services.model_name(asked.model)
        asks = list(completion_asks(asked, model=record.model))
        echoes = await self._echoes(asked) if asked.echo else []
        reply = await unless_gone(http.receive, self._admission.admit_all(asks, record, key=asker(http)))
        head = TextHead(f"cmpl-{uuid.uuid4().hex}", int(time.time()), record.model)
        record.response_id = head.id
        ended = partial(self._admission.note_end, reply, record)
        if asked.stream:
            voice = TextVoice(head, size=reply.size, echoes=echoes, include_usage=asked.includes_usage)
            return ReplyStream(reply, voice, ping_seconds=section.ping_every, ended=ended)
        said = await hear_out(reply, http.receive, ended=ended)
        choices = [
            TextChoice(index, echo + each.text, Offsets().tell(each.logprobs or ()), each.finish)
            for index, (echo, each) in enumerate(zip(echoes or [""] * reply.size, said, strict=True))
        ]
        return Response(wire.encode(head.body(choices, reply.usage)), media_type="application/json")

    async def _echoes(self, asked: CompletionRequest) -> list[str]:
        """The prompt as text, for each choice."""
        decode = self._services.ready().text.decode
        prompts = asked.prompts()
        texts = [each if isinstance(each, str) else await asyncio.to_thread(decode, each) for each in prompts]
        return [text for text in texts for _ in range(asked.n or 1)]


def completion_asks(asked: CompletionRequest, *, model: str) -> Iterator[Ask]:
    """One for each prompt. Raises InvalidRequestError that names the field at fault."""
    grammar, param = asked.hold()
    several = isinstance(asked.prompt, list)
    for index, prompt in enumerate(asked.prompts()):
        path = f"prompt[{index}]" if several else "prompt"
        yield Ask(
            model=model,
            prompt=PlainText(prompt, path) if isinstance(prompt, str) else TokenIds(prompt, path),
            wishes=_wishes(asked),
            n=asked.n or 1,
            priority=asked.priority or 0,
            grammar=grammar,
            names=Names(grammar=param),
        )


def _wishes(asked: CompletionRequest) -> Wishes:
    return Wishes(
        temperature=asked.temperature,
        top_p=asked.top_p,
        top_k=asked.top_k,
        min_p=asked.min_p,
        frequency_penalty=asked.frequency_penalty or 0.0,
        presence_penalty=asked.presence_penalty or 0.0,
        repetition_penalty=1.0 if asked.repetition_penalty is None else asked.repetition_penalty,
        logit_bias=asked.biases(),
        seed=asked.seed,
        max_tokens=USUAL_MAX_TOKENS if asked.max_tokens is None else asked.max_tokens,
        min_tokens=asked.min_tokens or 0,
        ignore_eos=asked.ignore_eos or False,
        stop=asked.stops(),
        logprobs=asked.logprobs,
    )
