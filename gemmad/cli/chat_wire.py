"""The chat's end of the API: which models there are, and an answer as it is said."""

from __future__ import annotations

import http.client
import json
from collections.abc import Callable, Generator, Iterator, Mapping
from typing import Any, NamedTuple

from gemmad.cli.exits import EXIT_FAILED, EXIT_NO_ACCESS, EXIT_NOT_RUNNING, EXIT_TRY_AGAIN, EXIT_USAGE

_EXITS = {400: EXIT_USAGE, 401: EXIT_NO_ACCESS, 403: EXIT_NO_ACCESS, 404: EXIT_USAGE, 413: EXIT_USAGE}
_EXITS |= {429: EXIT_TRY_AGAIN, 503: EXIT_TRY_AGAIN}
_NEEDS_KEY = "the daemon wants an API key: set GEMMAD_API_KEY, or give --key-file FILE"
_ANSWER_LIMIT_BYTES = 1 << 20
_LINE_LIMIT_BYTES = 1 << 20

Connect = Callable[[], tuple[str, http.client.HTTPConnection]]


class ChatError(Exception):
    """No answer, or not to the end; `code` is what to exit with."""

    def __init__(self, words: str, code: int) -> None:
        super().__init__(words)
        self.code = code


class Piece(NamedTuple):
    """Some of an answer."""

    text: str
    cut: bool = False
    """It is the last, and the answer is cut off here: it is as long as it may be."""


class Api:
    """The daemon's API for one who chats. Every request has a connection of its own, so that hanging up ends it."""

    def __init__(self, connect: Connect, *, key: str | None) -> None:
        """`connect` says where the daemon is, and makes a connection that is not open yet."""
        self._connect = connect
        self._headers = {"Content-Type": "application/json", "Accept": "text/event-stream, application/json"}
        if key is not None:
            self._headers["Authorization"] = f"Bearer {key}"

    def models(self) -> tuple[str, ...]:
        """What is served, the usual name first. Raises ChatError."""
        with _Exchange(self._connect, "GET", "/v1/models", self._headers) as exchange:
            try:
                return tuple(str(model["id"]) for model in json.loads(exchange.read())["data"])
            except (ValueError, LookupError, TypeError):
                raise ChatError(f"what answers at {exchange.where} is not gemmad", EXIT_FAILED) from None

    def say(self, body: Mapping[str, Any]) -> Generator[Piece, None, None]:
        """Ask for a chat completion, whose text is told as it comes.

        Raises ChatError. Closing the generator hangs up, which ends the request.
        """
        sent = json.dumps({**body, "stream": True}).encode()
        with _Exchange(self._connect, "POST", "/v1/chat/completions", self._headers, sent) as exchange:
            for event in exchange.events():
                for choice in event["choices"]:
                    yield Piece(choice["delta"].get("content") or "", choice.get("finish_reason") == "length")


class _Exchange:
    """A request and its answer, in a `with` block that ends both."""

    def __init__(
        self, connect: Connect, method: str, path: str, headers: Mapping[str, str], body: bytes | None = None
    ) -> None:
        self.where, self._connection = connect()
        self._response: http.client.HTTPResponse | None = None
        self._asked = (method, path, body, dict(headers))

    def __enter__(self) -> _Exchange:
        """Raises ChatError unless it is answered with success."""
        try:
            self._begin()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if self._response is not None:
            self._response.close()
        self._connection.close()

    def read(self) -> bytes:
        """The body. Raises ChatError."""
        assert self._response is not None
        try:
            return self._response.read(_ANSWER_LIMIT_BYTES)
        except (OSError, http.client.HTTPException) as error:
            raise self._broken(error) from None

    def events(self) -> Iterator[dict[str, Any]]:
        """The stream's events but for the last, which says that it is whole. Raises ChatError."""
        assert self._response is not None
        while True:
            try:
                line = self._response.readline(_LINE_LIMIT_BYTES)
            except (OSError, http.client.HTTPException) as error:
                raise self._broken(error) from None
            if not line:
                raise ChatError("the answer breaks off: the connection is closed", EXIT_FAILED)
            if not line.startswith(b"data:"):
                continue  # a ping, or the end of an event
            data = line[len(b"data:") :].strip()
            if data == b"[DONE]":
                return
            yield self._event(data)

    def _event(self, data: bytes) -> dict[str, Any]:
        try:
            event = json.loads(data)
        except ValueError:
            event = None
        if not isinstance(event, dict):
            raise ChatError(f"what answers at {self.where} is not gemmad", EXIT_FAILED)
        if "error" in event:
            raise ChatError(_reason(data) or "the answer breaks off", EXIT_FAILED)
        return event

    def _begin(self) -> None:
        method, path, body, headers = self._asked
        try:
            self._connection.connect()
        except PermissionError:
            raise ChatError(f"no access to {self.where}", EXIT_NO_ACCESS) from None
        except OSError as error:
            words = f"no daemon answers at {self.where} ({error}); start one: gemmad serve"
            raise ChatError(words, EXIT_NOT_RUNNING) from None
        try:
            self._connection.request(method, path, body=body, headers=headers)
            self._response = self._connection.getresponse()
        except (OSError, http.client.HTTPException) as error:
            raise self._broken(error) from None
        status = self._response.status
        if status == http.client.UNAUTHORIZED and "Authorization" not in headers:
            raise ChatError(_NEEDS_KEY, EXIT_NO_ACCESS)
        if status != http.client.OK:
            words = _reason(self.read()) or f"{self.where} answers HTTP {status}"
            raise ChatError(words, _EXITS.get(status, EXIT_FAILED))

    def _broken(self, error: Exception) -> ChatError:
        return ChatError(f"no answer from {self.where}: {error or type(error).__name__}", EXIT_FAILED)


def _reason(body: bytes) -> str | None:
    try:
        return str(json.loads(body)["error"]["message"])
    except (ValueError, LookupError, TypeError):
        return None
