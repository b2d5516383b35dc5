"""The outermost layer: a request id on every answer, one log line for every request, and nothing raised beyond it.

Plain ASGI: wrapping a response in another task would keep a stream alive after its client has left.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gemmad.api.dialects import rendering_of
from gemmad.api.errors import RENDERING, respond
from gemmad.api.record import Record, new_record
from gemmad.logs import get_logger

_log = get_logger(__name__)


class Edge:
    """Wraps the app, error handlers included."""

    def __init__(self, app: ASGIApp, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._app = app
        self._clock = clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        record = new_record(headers, method=scope["method"], path=scope["path"], began=self._clock())
        state = scope.setdefault("state", {})
        state["record"] = record
        state[RENDERING] = rendering_of(record.path)

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                record.status = message["status"]
                MutableHeaders(scope=message)["x-request-id"] = record.request_id
            await send(message)

        try:
            await self._app(scope, receive, send_with_id)
        except Exception as error:
            _log.exception("request crashed", request_id=record.request_id, path=record.path)
            await self._apologise(error, record, scope, receive, send_with_id)
        finally:
            _write(record, self._clock() - record.began)

    async def _apologise(self, error: Exception, record: Record, scope: Scope, receive: Receive, send: Send) -> None:
        if record.status:  # too late for another answer: the server closes what is left unfinished
            record.finish = "error"
            return
        await respond(error, scope)(scope, receive, send)


def _write(record: Record, seconds: float) -> None:
    write = _log.info if record.noteworthy or record.status == 500 else _log.debug
    write("request finished", **record.fields(seconds))
