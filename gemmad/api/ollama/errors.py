"""Errors in Ollama's shape: `{"error": "…"}`. What is told is decided in the one table, `gemmad.api.errors`."""

from __future__ import annotations

import msgspec
from msgspec import Struct
from starlette.responses import Response

from gemmad.api.errors import answer


class ErrorLine(Struct, frozen=True):
    """A whole answer, or the last line of a stream that failed."""

    error: str


def error_body(error: Exception) -> bytes:
    """The JSON of it."""
    return msgspec.json.encode(ErrorLine(answer(error).error.message))


def error_response(error: Exception, request_id: str) -> Response:
    """The whole answer. Its id is in the headers only."""
    del request_id
    told = answer(error)
    return Response(error_body(error), told.status, told.headers, media_type="application/json")
