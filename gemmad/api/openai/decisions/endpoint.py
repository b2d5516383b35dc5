"""`POST /v1/decisions`: questions about one input, answered with the model's own probabilities.

Each question is put at the end of the input, in the user's turn, and the network is asked what it holds of the labels
that may answer it. All prompts begin with the input, so its pages are computed once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial

from starlette.requests import Request as HttpRequest
from starlette.responses import Response

from gemmad.api.admission import LONG_TEXT_CHARACTERS
from gemmad.api.asker import asker
from gemmad.api.asks import Conversation
from gemmad.api.body import decode_object, read_body
from gemmad.api.disconnect import unless_gone
from gemmad.api.errors import GONE
from gemmad.api.errors import answer as error_answer
from gemmad.api.images import close_all, prepare_images
from gemmad.api.openai.decisions import wire
from gemmad.api.openai.decisions.asking import Asking
from gemmad.api.openai.decisions.evidence import Pictures, conversation
from gemmad.api.openai.decisions.plan import Plan, make_plan
from gemmad.api.openai.decisions.questions import Worded, answer, word
from gemmad.api.openai.decisions.schema import DecisionRequest, parse_decision
from gemmad.api.openai.usage import UsageBody
from gemmad.api.record import Record, record_of
from gemmad.api.services import Served, Services
from gemmad.errors import InvalidRequestError
from gemmad.media.pixels import Pixels
from gemmad.text.checkpoint import TextModel
from gemmad.text.messages import TextPart


class Decisions:
    """The endpoint."""

    def __init__(self, services: Services) -> None:
        self._services = services

    async def create(self, http: HttpRequest) -> Response:
        """All answers at once. Raises what the table of errors translates."""
        record = record_of(http)
        body = decode_object(await read_body(http, limit_bytes=self._services.server().max_body))
        request = parse_decision(body)
        record.model = self._services.model_name(request.model)
        asking = Asking(
            self._services.dispatcher,
            request_id=record.request_id,
            key=asker(http),
            on_journey=record.note_journey,
            clock=self._services.clock,
        )
        decided = await self._decide(http, request, asking, record)
        return Response(wire.encode(decided), media_type="application/json")

    async def _decide(
        self, http: HttpRequest, request: DecisionRequest, asking: Asking, record: Record
    ) -> wire.Decision:
        served = self._services.ready()
        pictures = Pictures(most=self._services.media().max_images)
        talk = conversation(request, pictures)
        worded = [word(question, f"questions[{i}]", pictures) for i, question in enumerate(request.questions)]
        record.images = len(pictures.asked) or None
        error: str | None = None
        pixels: tuple[Pixels, ...] = ()
        try:
            pixels = await unless_gone(http.receive, _pixels(served, pictures, record))
            with record.phase("tokenise"):
                plan = await _plan(served.text, talk, worded, pixels=pixels)
            plan.check(self._services.max_context() or served.text.context_length)
            told = await unless_gone(http.receive, asking.ask(list(plan.probes(pixels))))
        except BaseException as failure:
            error = error_answer(failure).error.code if isinstance(failure, Exception) else GONE
            raise
        finally:
            close_all(pixels)
            self._note_end(asking, record, error)
        answers = map(answer, request.questions, plan.probabilities(told))
        return wire.Decision(record.model or request.model, tuple(answers), UsageBody.of(asking.usage))

    def _note_end(self, asking: Asking, record: Record, error: str | None) -> None:
        """For the log line and the metrics, once a worker was asked."""
        metrics, usage = self._services.metrics, asking.usage
        record.error = error
        if not asking.begun:
            return
        record.prompt_tokens, record.completion_tokens = usage.prompt_tokens, usage.completion_tokens
        record.cached_tokens = usage.cached_tokens
        if asking.first_token_at is not None:
            record.ttft_seconds = round(asking.first_token_at - record.began, 4)
            metrics.first_token.observe(record.ttft_seconds)
            self._services.watched.first_token(record.ttft_seconds)
        if error is None:
            record.finish = "stop"
            metrics.whole_request.observe(self._services.clock() - record.began)
        else:
            record.finish = "gone" if error == GONE else "error"
        metrics.requests.labels(outcome=record.finish).inc()


async def _pixels(served: Served, pictures: Pictures, record: Record) -> tuple[Pixels, ...]:
    if not pictures.asked:
        return ()
    if served.media is None:
        raise InvalidRequestError("This model takes no images.", param=pictures.asked[0].param)
    with record.phase("media", images=len(pictures.asked)):
        return await prepare_images(served.media, pictures.asked, record)


async def _plan(text: TextModel, talk: Conversation, worded: Sequence[Worded], *, pixels: Sequence[Pixels]) -> Plan:
    encode = partial(make_plan, text, talk, worded, digests=[one.digest for one in pixels])
    spoken = (part for question in worded for part in question.words if isinstance(part, TextPart))
    characters = talk.characters + sum(len(part.text) for part in spoken)
    return await asyncio.to_thread(encode) if characters > LONG_TEXT_CHARACTERS else encode()
