"""`/v1/responses`: create, retrieve, delete, cancel, list what a response was made from, count tokens."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import partial

from msgspec import Struct
from starlette.requests import Request as HttpRequest
from starlette.responses import Response as HttpResponse
from starlette.types import ASGIApp

from gemmad.api.admission import Admission
from gemmad.api.asker import asker
from gemmad.api.asks import Ask
from gemmad.api.auth import holder_of
from gemmad.api.body import decode_object, read_body
from gemmad.api.disconnect import unless_gone
from gemmad.api.openai.responses import wire
from gemmad.api.openai.responses.background import Run, Tape, TapeStream
from gemmad.api.openai.responses.draft import Draft, blank, draft, fitting
from gemmad.api.openai.responses.listing import MAX_LIMIT, page
from gemmad.api.openai.responses.parameters import refuse_unsupported
from gemmad.api.openai.responses.schema import CountRequest, CreateRequest, parse
from gemmad.api.openai.responses.store import Kept, Store, Turn
from gemmad.api.openai.responses.teller import ResponseVoice, Teller
from gemmad.api.pieces import CallDelta, Piece, Said
from gemmad.api.record import Record, record_of
from gemmad.api.reply import Reply
from gemmad.api.services import Services
from gemmad.api.stream import ReplyStream
from gemmad.api.whole import hear_out
from gemmad.errors import InvalidRequestError, TooManyAtOnceError, UnknownResponseError

RETRY_SECONDS = 5.0
"""When to come back who has too much in the background."""


class _Running(Struct, frozen=True, eq=False):
    """A response in the background, as long as it is not over."""

    run: Run
    key: str
    draft: Draft


class Responses:
    """The endpoints, and what is stored for them. A response is its asker's alone: for others it does not exist."""

    def __init__(
        self,
        services: Services,
        admission: Admission,
        *,
        store: Store | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._services = services
        self._admission = admission
        self._store = Store() if store is None else store
        self._clock = clock
        self._running: dict[str, _Running] = {}

    async def create(self, http: HttpRequest) -> HttpResponse | ASGIApp:
        """A response, a stream of its events, or one that is only begun. Raises what the table of errors translates."""
        record, key = record_of(http), asker(http)
        body = decode_object(await read_body(http, limit_bytes=self._services.server().max_body))
        refuse_unsupported(body)
        request = parse(CreateRequest, body)
        _check(request)
        record.stream = bool(request.stream)
        record.model = self._services.model_name(request.model)
        drafted = self._draft(request, model=record.model, key=key)
        if request.background:
            self._require_room(http, key)
        reply = await unless_gone(http.receive, self._admit(drafted, request, record, key=key))
        teller = Teller(self._blank(drafted, request), names=drafted.names, clock=self._clock)
        record.response_id = teller.response.id
        if request.background:
            return self._begin(reply, teller, drafted, record, key=key, stream=bool(request.stream))
        ended = partial(self._admission.note_end, reply, record)
        settled = partial(self._keep, drafted, key)
        if request.stream:
            voice = ResponseVoice(teller, settled=settled)
            return ReplyStream(reply, voice, ping_seconds=self._services.server().ping_every, ended=ended)
        return await self._complete(http, reply, teller, settled=settled, ended=ended)

    async def retrieve(self, http: HttpRequest) -> HttpResponse | ASGIApp:
        """A stored response, or the events of one in the background. Raises UnknownResponseError."""
        response_id, key = http.path_params["response_id"], asker(http)
        running, query = self._runs(response_id, key), http.query_params
        if query.get("stream", "").lower() not in ("true", "1"):
            body = wire.encode(running.run.teller.response) if running else self._kept(response_id, key).body
            return HttpResponse(body, media_type="application/json")
        start = _number(query, "starting_after", low=0, high=1 << 31)
        tape = running.run.tape if running else _tape(self._kept(response_id, key))
        if tape is None:
            raise InvalidRequestError(
                "This response cannot be streamed: it was not created with 'background' and 'stream'.", param="stream"
            )
        seconds = self._services.server().ping_every
        return TapeStream(tape, start=0 if start is None else start + 1, ping_seconds=seconds)

    async def delete(self, http: HttpRequest) -> HttpResponse:
        """Forget it; one in the background ends. Raises UnknownResponseError."""
        response_id, key = http.path_params["response_id"], asker(http)
        running = self._runs(response_id, key)
        if running is not None:
            del self._running[response_id]
            running.run.cancel()
        elif not self._store.delete(response_id, key=key):
            raise UnknownResponseError(response_id)
        return _json(wire.Deleted(response_id))

    async def cancel(self, http: HttpRequest) -> HttpResponse:
        """End one in the background; one that has ended stays as it is. Raises UnknownResponseError."""
        response_id, key = http.path_params["response_id"], asker(http)
        running = self._runs(response_id, key)
        if running is not None:
            running.run.cancel()
            return _json(running.run.teller.response)
        kept = self._kept(response_id, key)
        if not kept.background:
            raise InvalidRequestError("Only a response that was created with 'background' can be cancelled.")
        return HttpResponse(kept.body, media_type="application/json")

    async def input_items(self, http: HttpRequest) -> HttpResponse:
        """What a response was made from, the latest first. Raises UnknownResponseError."""
        response_id, key = http.path_params["response_id"], asker(http)
        running, query = self._runs(response_id, key), http.query_params
        if running is not None:
            items = tuple(listed.item for listed in running.draft.listed)
        else:
            items = self._kept(response_id, key).input_items
        limit = _number(query, "limit", low=1, high=MAX_LIMIT)
        return _json(page(items, order=query.get("order", "desc"), after=query.get("after"), limit=limit))

    async def count(self, http: HttpRequest) -> HttpResponse:
        """How many tokens a prompt would take."""
        body = decode_object(await read_body(http, limit_bytes=self._services.server().max_body))
        refuse_unsupported(body)
        request = parse(CountRequest, body)
        model = self._services.names()[0] if request.model is None else self._services.model_name(request.model)
        drafted = self._draft(request, model=model, key=asker(http))
        shorten = request.truncation == "auto"
        ask = await unless_gone(http.receive, self._fit(drafted, reserve=1)) if shorten else drafted.ask()
        return _json(wire.InputTokens(await unless_gone(http.receive, self._admission.count(ask))))

    # --- making one ---------------------------------------------------------------------------------------------------

    def _draft(self, request: CountRequest, *, model: str, key: str) -> Draft:
        return draft(
            request,
            model=model,
            previous=self._previous(request.previous_response_id, key),
            find=partial(self._store.find_item, key=key),
            max_images=self._services.media().max_images,
        )

    def _previous(self, response_id: str | None, key: str) -> Kept | None:
        if response_id is None:
            return None
        kept = self._store.get(response_id, key=key)
        if kept is None:
            why = "It is still in progress" if self._runs(response_id, key) else UnknownResponseError.REASONS
            raise InvalidRequestError(
                f"Previous response with id '{response_id[:128]}' not found. {why}.",
                param="previous_response_id",
                code="previous_response_not_found",
            )
        return kept

    async def _admit(self, drafted: Draft, request: CreateRequest, record: Record, *, key: str) -> Reply:
        shorten = request.truncation == "auto"
        ask = await self._fit(drafted, reserve=request.max_output_tokens or 1) if shorten else drafted.ask()
        return await self._admission.admit(ask, record, key=key)

    async def _fit(self, drafted: Draft, *, reserve: int) -> Ask:
        """`reserve`: tokens that the reply needs."""
        max_context = self._services.max_context() or self._services.ready().text.context_length
        return await fitting(drafted, count=self._admission.count, room=max_context - reserve)

    def _blank(self, drafted: Draft, request: CreateRequest) -> wire.Response:
        section, defaults = self._services.sampling(), self._services.ready().text.defaults
        return blank(
            drafted,
            request,
            created_at=int(self._clock()),
            temperature=_first(request.temperature, section.temperature, defaults.temperature),
            top_p=_first(request.top_p, section.top_p, defaults.top_p),
        )

    async def _complete(
        self,
        http: HttpRequest,
        reply: Reply,
        teller: Teller,
        *,
        settled: Callable[[wire.Response], None],
        ended: Callable[[str | None], None],
    ) -> HttpResponse:
        (said,) = await hear_out(reply, http.receive, ended=ended)
        teller.begin()
        teller.hear(_as_piece(said))
        teller.end(reply.usage)
        settled(teller.response)
        return _json(teller.response)

    def _begin(
        self, reply: Reply, teller: Teller, drafted: Draft, record: Record, *, key: str, stream: bool
    ) -> HttpResponse | ASGIApp:
        ended = partial(self._note_background, teller, record, partial(self._admission.note_end, reply, record))
        record.background = True
        record.hold()
        run = Run(reply, teller, taped=stream, ended=ended)
        response = teller.response
        self._running[response.id] = _Running(run, key, drafted)
        if run.tape is None:
            return _json(response)
        return TapeStream(run.tape, start=0, ping_seconds=self._services.server().ping_every)

    def _note_background(
        self, teller: Teller, record: Record, note_end: Callable[[str | None], None], error: str | None
    ) -> None:
        note_end(error)
        record.release()
        response = teller.response
        running = self._running.pop(response.id, None)
        if running is not None:
            events = tuple(running.run.tape.events) if running.run.tape is not None else None
            self._keep(running.draft, running.key, response, events=events)

    def _require_room(self, http: HttpRequest, key: str) -> None:
        """What a key has in the background is bounded like what it waits for. Raises TooManyAtOnceError."""
        holder, limit = holder_of(http), self._services.auth().max_concurrent
        if holder is None or holder.admin or limit is None:
            return
        running = sum(each.key == key for each in self._running.values())
        if running >= limit:
            raise TooManyAtOnceError(
                f"This key has {running} responses in the background, and may have {limit}.",
                retry_after_seconds=RETRY_SECONDS,
            )

    # --- keeping them -------------------------------------------------------------------------------------------------

    def _keep(
        self, drafted: Draft, key: str, response: wire.Response, *, events: tuple[bytes, ...] | None = None
    ) -> None:
        if not response.store:
            return
        turns = (*drafted.before, Turn.of(drafted.own, response.output))
        self._store.put(Kept(response.id, key, wire.encode(response), turns, response.background, events))

    def _kept(self, response_id: str, key: str) -> Kept:
        kept = self._store.get(response_id, key=key)
        if kept is None:
            raise UnknownResponseError(response_id)
        return kept

    def _runs(self, response_id: str, key: str) -> _Running | None:
        running = self._running.get(response_id)
        return running if running is not None and running.key == key else None


def _check(request: CreateRequest) -> None:
    if request.background and request.store is False:
        raise InvalidRequestError("'background' needs 'store': the response could never be had.", param="background")


def _as_piece(said: Said) -> Piece:
    calls = tuple(CallDelta(index, call.arguments, call.id, call.name) for index, call in enumerate(said.calls))
    return Piece(0, said.text, said.finish, calls, said.logprobs or ())


def _tape(kept: Kept) -> Tape | None:
    return None if kept.events is None else Tape(kept.events, over=True)


def _first(asked: float | None, configured: float | None, default: float) -> float:
    return next((value for value in (asked, configured) if value is not None), default)


def _number(query: Mapping[str, str], name: str, *, low: int, high: int) -> int | None:
    text = query.get(name)
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 12 and low <= int(text) <= high):
        raise InvalidRequestError(
            f"Invalid value for '{name}': expected an integer from {low} to {high}.", param=name, code="invalid_value"
        )
    return int(text)


def _json(body: Struct) -> HttpResponse:
    return HttpResponse(wire.encode(body), media_type="application/json")
