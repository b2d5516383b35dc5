"""Who calls: everything but whether the daemon lives needs a key, once there are keys.

A key comes as `Authorization: Bearer KEY` (OpenAI's clients) or `x-api-key: KEY` (Anthropic's); one that is right is
enough. It is read here, compared, and forgotten: what goes on from here is the name of its holder.

Below `/dashboard/` the token of a session is as good as a key, and nowhere else; what either is good for there is
decided by `dashboard.access`. The pages themselves are open: they hold no data.

Plain ASGI, like the edge: a stream counts as under way until its last byte.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from gemmad.api.dashboard.sessions import Session, Sessions
from gemmad.api.errors import handle
from gemmad.config.keyring import Holder, Keyring
from gemmad.config.schema import AuthSection
from gemmad.dispatch.prospects import ServiceTime, clamp_retry, turn_in_seconds
from gemmad.errors import GemmadError, MissingKeyError, TooManyAtOnceError, UnauthorizedError

OPEN_PATHS = frozenset({"/health", "/health/live", "/health/ready", "/version"})
"""Answered without a key; `/health` then without details."""
CHAT, ASSETS, DASHBOARD = "/chat", "/assets/", "/dashboard/"
_BEARER = "bearer "


class Auth:
    """Asks for keys, and counts what each has under way."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        keyring: Callable[[], Keyring],
        section: Callable[[], AuthSection],
        sessions: Sessions,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._app = app
        self._keyring = keyring
        self._sessions = sessions
        self._section = section
        self._under_way = UnderWay(clock)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or refuse it."""
        keyring = self._keyring()
        if scope["type"] != "http" or self._is_session(scope) or not keyring:
            await self._app(scope, receive, send)
            return
        try:
            headers = Headers(scope=scope)
            holder = _holder(keyring, headers, needed=not is_open(scope["path"], headers))
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

    def _is_session(self, scope: Scope) -> bool:
        """Whether it is one's of the dashboard, which is then noted."""
        if not scope["path"].startswith(DASHBOARD):
            return False
        for token in keys_sent(Headers(scope=scope)):
            if (session := self._sessions.find(token)) is not None:
                scope["state"]["session"] = session
                scope["state"]["record"].key = f"session {session.name}"
                return True
        return False


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


def session_of(request: Request) -> Session | None:
    """The session of the dashboard whose token the request came with."""
    session: Session | None = request.scope.get("state", {}).get("session")
    return session


def is_open(path: str, headers: Headers) -> bool:
    """Whether it is answered without a key: the daemon's health, and pages with all that they are made of."""
    if path == "/":
        return wants_page(headers)
    return path in OPEN_PATHS or path == CHAT or path.startswith(ASSETS)


def wants_page(headers: Headers) -> bool:
    """Whether a browser asks, for somebody to look at the answer."""
    return "text/html" in headers.get("accept", "").lower()


async def refuse(error: GemmadError, scope: Scope, receive: Receive, send: Send) -> None:
    """Answer with an error instead of serving."""
    response = await handle(Request(scope), error)
    await response(scope, receive, send)


def _holder(keyring: Keyring, headers: Headers, *, needed: bool) -> Holder | None:
    keys = list(keys_sent(headers))
    holders = [holder for holder in map(keyring.find, keys) if holder is not None]
    if holders:
        return holders[0]
    if needed:
        raise UnauthorizedError if keys else MissingKeyError
    return None


def keys_sent(headers: Headers) -> Iterator[str]:
    """Whatever a request sends as a key, right or wrong."""
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
