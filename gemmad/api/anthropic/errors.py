"""Errors in Anthropic's shape. What is told is decided in the one table, `gemmad.api.errors`; this is how it is put."""

from __future__ import annotations

from starlette.responses import Response

from gemmad.api.anthropic import wire
from gemmad.api.errors import answer
from gemmad.errors import ContextLengthError

REQUEST_ID_HEADER = "request-id"
"""Where Anthropic's SDKs look for it."""

_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    408: "timeout_error",
    429: "rate_limit_error",
    503: "overloaded_error",
}


def error_event(error: Exception, *, request_id: str) -> wire.ErrorEvent:
    """The body, also of the event that ends a stream."""
    told = answer(error)
    kind = _TYPES.get(told.status, "api_error" if told.status >= 500 else "invalid_request_error")
    details = None if told.error.code is None else wire.ErrorDetails(told.error.code)
    return wire.ErrorEvent(wire.ErrorBody(kind, _message(error, told.error.message), details), request_id)


def error_response(error: Exception, request_id: str) -> Response:
    """The whole answer."""
    told = answer(error)
    body = wire.encode(error_event(error, request_id=request_id))
    headers = told.headers | {REQUEST_ID_HEADER: request_id}
    return Response(body, told.status, headers, media_type="application/json")


def _message(error: Exception, message: str) -> str:
    """Claude Code reads out of these words that, and by how much, it must shorten the conversation."""
    if not isinstance(error, ContextLengthError):
        return message
    if error.prompt_tokens is None:
        return f"prompt is too long: {message}"
    return f"prompt is too long: {error.prompt_tokens} tokens > {error.limit_tokens} maximum"
