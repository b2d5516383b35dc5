from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import Request

from gemmad.api.body import decode_object, read_body
from gemmad.api.errors import ClientGoneError, SlowBodyError
from gemmad.errors import BodyTooLargeError, InvalidRequestError

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


def read(messages: Iterable[dict[str, Any]], *, limit: int = 10, headers: dict[str, str] | None = None) -> bytes:
    """What `read_body` makes of ASGI messages; after the last one it waits for ever."""
    coming = list(messages)

    async def receive() -> dict[str, Any]:
        if coming:
            return coming.pop(0)
        return await asyncio.Future()

    raw = [(name.encode(), value.encode()) for name, value in (headers or {}).items()]
    request = Request({"type": "http", "headers": raw}, receive)
    return asyncio.run(read_body(request, limit_bytes=limit, idle_seconds=0.05))


def part(body: bytes, *, more: bool = False) -> dict[str, Any]:
    return {"type": "http.request", "body": body, "more_body": more}


def test_a_body_in_pieces() -> None:
    """The pieces of a body are put together, up to the limit."""
    assert read([part(b"12345", more=True), part(b"67890")]) == b"1234567890"


def test_a_body_over_the_limit() -> None:
    """One byte over the limit ends the reading, whatever was announced."""
    with pytest.raises(BodyTooLargeError):
        read([part(b"12345678", more=True), part(b"901", more=True)])
    with pytest.raises(BodyTooLargeError):
        read([], headers={"content-length": "11"})
    with pytest.raises(BodyTooLargeError):
        read([], headers={"content-length": "9" * 400})
    assert read([part(b"1")], headers={"content-length": "nonsense"}) == b"1"


def test_a_body_that_stops_arriving() -> None:
    """A pause that is too long ends the request."""
    with pytest.raises(SlowBodyError):
        read([part(b"1", more=True)])


def test_a_body_in_drops() -> None:
    """Drops that come without a long pause do not keep a request going for ever."""

    async def scenario() -> None:
        async def receive() -> dict[str, Any]:
            await asyncio.sleep(0.01)
            return part(b"x", more=True)

        async with asyncio.timeout(20):
            await read_body(Request({"type": "http", "headers": []}, receive), limit_bytes=1 << 20, idle_seconds=0.05)

    with pytest.raises(SlowBodyError):
        asyncio.run(scenario())


def test_a_client_that_leaves() -> None:
    """A disconnect in the middle of the body is no request."""
    with pytest.raises(ClientGoneError):
        read([part(b"1", more=True), {"type": "http.disconnect"}])


@given(st.binary(max_size=200))
def test_any_bytes_are_an_object_or_refused(body: bytes) -> None:
    """Whatever the bytes are, the result is an object or an InvalidRequestError."""
    try:
        value: object = decode_object(body)
    except InvalidRequestError as error:
        value = error
    assert isinstance(value, dict) or (isinstance(value, InvalidRequestError) and value.code == "invalid_json")


@given(st.dictionaries(st.text(), JSON))
def test_what_python_writes_is_read_back(value: dict[str, Any]) -> None:
    """An object comes out as it was written."""
    assert decode_object(json.dumps(value, ensure_ascii=True).encode()) == value


def test_errors_quote_nothing() -> None:
    """The error about a broken body has nothing of the body in it."""
    with pytest.raises(InvalidRequestError) as caught:
        decode_object(b'{"prompt": "my secret", }')
    assert "secret" not in caught.value.message
