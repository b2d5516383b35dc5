"""One table: kind of error → what a client is told. Every answer that is no success is made here.

The body is OpenAI's on every route and status: `{"error": {"message", "type", "param", "code"}}`; on other
dialects' routes the same is put in their shapes (`dialects.py`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import msgspec
from msgspec import Struct
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Scope

from gemmad.api.record import record_of
from gemmad.errors import (
    BodyTooLargeError,
    BusyError,
    ContextLengthError,
    ForeignPageError,
    GemmadError,
    InvalidRequestError,
    MisdirectedError,
    MissingKeyError,
    QueueFullError,
    RequestFailedError,
    TooManyAtOnceError,
    UnauthorizedError,
    UnavailableError,
    UnknownModelError,
    UnknownResponseError,
)

MESSAGE_LIMIT = 1000
"""Characters of a message at most: an error never echoes a large body."""
RETRY_AFTER_LIMIT_SECONDS = 120
"""Above it the SDKs do not retry at all."""

NO_KEY = "No API key was sent. Send one as 'Authorization: Bearer KEY' or as 'x-api-key: KEY'."
WRONG_KEY = "Incorrect API key provided."

RENDERING = "rendering"
"""Where the edge notes in a request's state whose words its errors are put in; none: OpenAI's."""
Rendering = Callable[[Exception, str], Response]
"""An error, and the id of the request, as a whole answer."""

GONE = "client_gone"
"""The code of what is never told."""


class ClientGoneError(GemmadError):
    """The client left before there was an answer; nobody reads what is sent now."""


class SlowBodyError(InvalidRequestError):
    """A body that stopped arriving."""


class ErrorBody(Struct, frozen=True):
    """What is inside `{"error": …}`, whether it is a whole answer or the last event of a stream."""

    message: str
    type: str
    param: str | None = None
    code: str | None = None


class Envelope(Struct, frozen=True):
    """The whole body."""

    error: ErrorBody


class Answer(Struct, frozen=True):
    """An error as a client gets it."""

    status: int
    error: ErrorBody
    headers: dict[str, str] = {}

    def body(self) -> bytes:
        """The JSON of it."""
        return msgspec.json.encode(Envelope(self.error))

    def response(self) -> Response:
        """The answer for a client that has not been told anything yet."""
        return Response(self.body(), self.status, self.headers, media_type="application/json")


class Kind(Struct, frozen=True):
    """One row of the table. `code` is what is told when the error itself has none."""

    status: int
    type: str
    code: str | None = None
    retry: bool | None = None
    """`x-should-retry`: what the SDKs then do, whatever the status says; none leaves it to them."""
    headers: Mapping[str, str] = {}


_NO_ENTRY = Kind(401, "authentication_error", "invalid_api_key", headers={"WWW-Authenticate": "Bearer"})

TABLE: dict[type[Exception], Kind] = {
    InvalidRequestError: Kind(400, "invalid_request_error"),
    ContextLengthError: Kind(400, "invalid_request_error", "context_length_exceeded"),
    UnauthorizedError: _NO_ENTRY,
    MissingKeyError: _NO_ENTRY,
    ForeignPageError: Kind(403, "permission_error", "origin_not_allowed"),
    UnknownModelError: Kind(404, "invalid_request_error", "model_not_found"),
    UnknownResponseError: Kind(404, "invalid_request_error", "response_not_found"),
    SlowBodyError: Kind(408, "invalid_request_error", "request_timeout", retry=False),
    BodyTooLargeError: Kind(413, "invalid_request_error", "body_too_large"),
    MisdirectedError: Kind(421, "invalid_request_error", "host_not_allowed"),
    TooManyAtOnceError: Kind(429, "rate_limit_error", "too_many_concurrent", retry=True),
    QueueFullError: Kind(429, "rate_limit_error", "queue_full", retry=True),
    ClientGoneError: Kind(499, "invalid_request_error", GONE),  # for the log: nobody reads it
    RequestFailedError: Kind(500, "server_error"),
    UnavailableError: Kind(503, "service_unavailable_error", "service_unavailable", retry=True),
    Exception: Kind(500, "server_error", "internal_error", retry=False),
}
"""The nearest class of an error's own line of descent decides."""

HTTP_CODES = {404: "not_found", 405: "method_not_allowed"}


def answer(error: Exception) -> Answer:
    """Translate what was raised. An error that nobody raised on purpose tells nothing of itself."""
    if isinstance(error, HTTPException):
        return _http_answer(error)
    kind = next(TABLE[cls] for cls in type(error).__mro__ if cls in TABLE)
    headers = dict(kind.headers)
    retry = error.retryable if isinstance(error, RequestFailedError) else kind.retry
    if retry is not None:
        headers["x-should-retry"] = "true" if retry else "false"
    if isinstance(error, BusyError):
        headers |= retry_after(error.retry_after_seconds)
    body = ErrorBody(
        message=_message(error),
        type=kind.type,
        param=getattr(error, "param", None),
        code=getattr(error, "code", None) or kind.code,
    )
    return Answer(kind.status, body, headers)


def retry_after(seconds: float) -> dict[str, str]:
    """Headers that say when to come back: whole seconds for everyone, milliseconds for the SDKs."""
    seconds = RETRY_AFTER_LIMIT_SECONDS if math.isnan(seconds) else min(max(seconds, 0), RETRY_AFTER_LIMIT_SECONDS)
    milliseconds = max(round(seconds * 1000), 1)
    return {"Retry-After": str(max(math.ceil(milliseconds / 1000), 1)), "retry-after-ms": str(milliseconds)}


async def handle(request: Request, error: Exception) -> Response:
    """Starlette's exception handler for what is raised on purpose before an answer has begun."""
    told = answer(error)
    record = record_of(request)
    record.error = told.error.code
    if isinstance(error, ClientGoneError):
        record.finish = "gone"
    return respond(error, request.scope)


def respond(error: Exception, scope: Scope) -> Response:
    """The answer in the words of whoever asked."""
    render: Rendering | None = scope["state"].get(RENDERING)
    return answer(error).response() if render is None else render(error, scope["state"]["record"].request_id)


def _message(error: Exception) -> str:
    if isinstance(error, UnauthorizedError):
        return NO_KEY if isinstance(error, MissingKeyError) else WRONG_KEY
    if not isinstance(error, GemmadError):
        return "The server had an error while processing your request. Its log has the details under the request id."
    return shortened(str(error))


def shortened(text: str) -> str:
    """At most `MESSAGE_LIMIT` characters of it."""
    return text if len(text) <= MESSAGE_LIMIT else text[: MESSAGE_LIMIT - 1] + "…"


def _http_answer(error: HTTPException) -> Answer:
    body = ErrorBody(
        message=shortened(error.detail),
        type="invalid_request_error",
        code=HTTP_CODES.get(error.status_code),
    )
    return Answer(error.status_code, body, dict(error.headers or {}))
