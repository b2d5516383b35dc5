"""A request's body: read up to a limit, decoded strictly."""

from __future__ import annotations

import asyncio
from typing import Any

from pydantic_core import from_json
from starlette.requests import Request

from gemmad.api.errors import ClientGoneError, SlowBodyError
from gemmad.errors import BodyTooLargeError, InvalidRequestError

IDLE_SECONDS = 60.0
"""Pause after which a body that stopped arriving is given up."""
LEAST_BYTES_PER_SECOND = 4096
"""How fast a body must come on average, after the first `IDLE_SECONDS`: one that comes in drops would hold its
connection for days."""
VALUES_LIMIT = 1_000_000
"""Commas and brackets in a body at most. A body of empty lists would otherwise take the event loop for seconds, and
many times its size in memory; no context is long enough for a text with so many."""


async def read_body(request: Request, *, limit_bytes: int, idle_seconds: float = IDLE_SECONDS) -> bytes:
    """The whole body. Raises BodyTooLargeError as soon as it is known to be over the limit."""
    announced = request.headers.get("content-length", "")
    if announced.isascii() and announced.isdigit() and int(announced[:20]) > limit_bytes:
        raise BodyTooLargeError(limit_bytes)
    parts: list[bytes] = []
    size = 0
    more = True
    clock = asyncio.get_running_loop().time
    began = clock()
    while more:
        in_all = began + idle_seconds + size / LEAST_BYTES_PER_SECOND
        try:
            async with asyncio.timeout_at(min(clock() + idle_seconds, in_all)):
                message = await request.receive()
        except TimeoutError:
            raise SlowBodyError("The request body stopped arriving, or comes too slowly.") from None
        if message["type"] == "http.disconnect":
            raise ClientGoneError("the client left while it was sending the body")
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > limit_bytes:
            raise BodyTooLargeError(limit_bytes)
        more = message.get("more_body", False)
    return b"".join(parts)


def decode_object(body: bytes) -> dict[str, Any]:
    """The JSON object in `body`. Of a key that stands twice the last one counts, as everywhere.

    Raises InvalidRequestError that says where: bad syntax, bytes that are no UTF-8, NaN and Infinity, numbers of
    thousands of digits, nesting deeper than 200.
    """
    if body.count(b",") + body.count(b"[") + body.count(b"{") > VALUES_LIMIT:
        raise InvalidRequestError(f"The request body has more than {VALUES_LIMIT} values.")
    try:
        value = from_json(body, allow_inf_nan=False)
    except ValueError as error:  # it names line and column, and quotes nothing of the body
        raise InvalidRequestError(f"The request body is not valid JSON: {error}.", code="invalid_json") from None
    if not isinstance(value, dict):
        raise InvalidRequestError("The request body must be a JSON object.", code="invalid_json")
    return value
