"""Who calls: everything but whether the daemon lives needs a key, once there are keys.

A key comes as `Authorization: Bearer KEY` (OpenAI's clients) or `x-api-key: KEY` (Anthropic's); one that is right is
enough. It is read here, compared, and forgotten: what goes on from here is the name of its holder.

Plain ASGI, like the edge: a stream counts as under way until its last byte.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from gemmad.api.errors import handle
from gemmad.config.keyring import Holder, Keyring
from gemmad.config.schema import AuthSection
from gemmad.dispatch.prospects import ServiceTime, clamp_retry, turn_in_seconds
from gemmad.errors import GemmadError, MissingKeyError, TooManyAtOnceError, UnauthorizedError

OPEN_PATHS = frozenset({"/health", "/health/live", "/health/ready", "/version"})
"""Answered without a key; `/health` then without details."""
_BEARER = "bearer "


class Auth:
    """Asks for keys, and counts what each has under way."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        keyring: Callable[[], Keyring],
        section: Callable[[], AuthSection],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._app = app
        self._keyring = keyring
        self._section = section
        self._under_way = UnderWay(clock)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or refuse it."""
        keyring = self._keyring()
        if scope["type"] != "http" or not keyring:
            await self._app(scope, receive, send)
            return
        try:
            holder = _holder(keyring, Headers(scope=scope), needed=scope["path"] not in OPEN_PATHS)
            _note(scope, holder)
            counted = holder if scope["method"] == "POST" else None
            if counted is not None:
                self._under_way.begin(counted, limit=self._section().max_concurrent)
        except (UnauthorizedError, TooManyAtOnceError) as error:
            await refuse(error, scope, receive, send)
            return
        began = self._under_way.clock()
        try:
            await self._app(scope, receive, send)
        finally:
            if counted is not None:
                self._under_way.end(counted, began=began)


class UnderWay:
    """How many requests of each key are being served, and how long they take."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.clock = clock
        self._counts: Counter[str] = Counter()
        self._service = ServiceTime()

    def begin(self, holder: Holder, *, limit: int | None) -> None:
        """One more; whoever begins one ends it. Raises TooManyAtOnceError, and then there is nothing to end."""
        running = self._counts[holder.name]
        if limit is not None and running >= limit and not holder.admin:
            seconds = turn_in_seconds(self._service, turns_before=running - limit, running=running)
            raise TooManyAtOnceError(
                f"This key has {running} requests under way, and may have {limit}.",
                retry_after_seconds=clamp_retry(seconds),
            )
        self._counts[holder.name] += 1

    def end(self, holder: Holder, *, began: float) -> None:
        """One less."""
        self._service = self._service.after(self.clock() - began)
        self._counts[holder.name] -= 1
        if not self._counts[holder.name]:
            del self._counts[holder.name]


def holder_of(request: Request) -> Holder | None:
    """Whose key the request came with; None where no key is needed and none, or a wrong one, was sent."""
    holder: Holder | None = request.scope.get("state", {}).get("holder")
    return holder


async def refuse(error: GemmadError, scope: Scope, receive: Receive, send: Send) -> None:
    """Answer with an error instead of serving."""
    response = await handle(Request(scope), error)
    await response(scope, receive, send)


def _holder(keyring: Keyring, headers: Headers, *, needed: bool) -> Holder | None:
    keys = list(_keys(headers))
    holders = [holder for holder in map(keyring.find, keys) if holder is not None]
    if holders:
        return holders[0]
    if needed:
        raise UnauthorizedError if keys else MissingKeyError
    return None


def _keys(headers: Headers) -> Iterator[str]:
    for value in headers.getlist("authorization"):
        if value[: len(_BEARER)].lower() == _BEARER and value[len(_BEARER) :].strip():
            yield value[len(_BEARER) :].strip()
    for value in headers.getlist("x-api-key"):
        if value.strip():
            yield value.strip()


def _note(scope: Scope, holder: Holder | None) -> None:
    if holder is not None:
        scope["state"]["holder"] = holder
        scope["state"]["record"].key = holder.name
