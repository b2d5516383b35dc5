"""The outermost layer: a request id on every answer and log line, one line and one trace for every request, and nothing
raised beyond it.

Plain ASGI: wrapping a response in another task would keep a stream alive after its client has left.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gemmad.api.dialects import rendering_of
from gemmad.api.errors import RENDERING, answer, respond
from gemmad.api.record import Record, new_record
from gemmad.api.spans import spans_of
from gemmad.logs import bind_request, get_logger
from gemmad.tracing.tracer import Tracer

_log = get_logger(__name__)


class Edge:
    """Wraps the app, error handlers included."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        clock: Callable[[], float] = time.monotonic,
        tracer: Tracer | None = None,
        devices: Callable[[], Mapping[str, str]] = dict,
    ) -> None:
        """`devices` of workers, by their names, for spans."""
        self._app = app
        self._clock = clock
        self._tracer = tracer
        self._devices = devices

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        record = self._open(scope)

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                record.status = message["status"]
                MutableHeaders(scope=message)["x-request-id"] = record.request_id
            await send(message)

        try:
            await self._app(scope, receive, send_with_id)
        except Exception as error:
            _log.exception("request crashed", path=record.path)
            record.finish, record.error = "error", answer(error).error.code
            if not record.status:  # else it is too late for another answer: the server closes what is left unfinished
                await respond(error, scope)(scope, receive, send_with_id)
        finally:
            record.release()

    def _open(self, scope: Scope) -> Record:
        method, path = scope["method"], scope["path"]
        record = new_record(Headers(scope=scope), method=method, path=path, began=self._clock(), clock=self._clock)
        record.on_over = self._end
        if self._tracer is not None and record.operation is not None:
            record.trace = self._tracer.begin(record.trace)
        if record.trace is None:
            bind_request(request_id=record.request_id)
        else:
            bind_request(request_id=record.request_id, trace_id=record.trace.trace_id)
        state = scope.setdefault("state", {})
        state["record"] = record
        state[RENDERING] = rendering_of(record.path)
        return record

    def _end(self, record: Record) -> None:
        ended = self._clock()
        write = _log.debug if record.operation is None and record.status != 500 else _log.info
        write("request finished", **record.fields(ended - record.began))
        if self._tracer is None or record.trace is None or not record.trace.sampled or record.operation is None:
            return
        offset = time.time() - ended
        self._tracer.tell(record.trace, spans_of(record, ended, offset=offset, devices=self._devices()))
