"""Web pages of other origins: those that are listed may call the API (CORS), the others may not.

A browser keeps a page from reading what another origin answers, not from sending it a plain POST. Where no key is
needed, such a request would be computed; so it is refused, told by what browsers alone send (as Go's
`http.CrossOriginProtection`): `Sec-Fetch-Site`, else an `Origin` that is not the host asked for.
What is below `/dashboard/` is not even looked at for them: each who listens there takes one of few places.
"""

from __future__ import annotations

from collections.abc import Callable

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

from gemmad.api.auth import DASHBOARD, refuse
from gemmad.config.keyring import Keyring
from gemmad.config.schema import ServerSection
from gemmad.errors import ForeignPageError

METHODS = ("GET", "HEAD", "POST", "DELETE")
EXPOSED_HEADERS = ("x-request-id", "retry-after", "retry-after-ms", "x-should-retry")
MAX_AGE_SECONDS = 600
_SAFE_METHODS = ("GET", "HEAD", "OPTIONS")


class Cors:
    """Asks the live setting each time; with no origin listed it adds nothing to any answer."""

    def __init__(self, app: ASGIApp, *, section: Callable[[], ServerSection], keyring: Callable[[], Keyring]) -> None:
        self._app = app
        self._section = section
        self._keyring = keyring
        self._built: tuple[tuple[str, ...], CORSMiddleware] = ((), self._middleware(()))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers, origins = Headers(scope=scope), self._section().cors_origins
        origin = headers.get("origin")
        if origin is not None and ("*" in origins or origin in origins) and _is_for_us(headers):
            await self._for(origins)(scope, receive, send)
        elif not self._keyring() and is_foreign(scope["method"], headers, path=scope["path"]):
            words = "Web pages of this origin may not call this server; its setting server.cors_origins allows some."
            await refuse(ForeignPageError(words), scope, receive, send)
        else:
            await self._app(scope, receive, send)

    def _for(self, origins: tuple[str, ...]) -> CORSMiddleware:
        if self._built[0] != origins:
            self._built = (origins, self._middleware(origins))
        return self._built[1]

    def _middleware(self, origins: tuple[str, ...]) -> CORSMiddleware:
        return CORSMiddleware(
            self._app,
            allow_origins=origins,
            allow_methods=METHODS,
            allow_headers=["*"],
            allow_private_network=True,
            expose_headers=EXPOSED_HEADERS,
            max_age=MAX_AGE_SECONDS,
        )


def is_foreign(method: str, headers: Headers, *, path: str = "/") -> bool:
    """Whether a browser sent this for a page of another origin, and it is more than a look."""
    if method in _SAFE_METHODS and not path.startswith(DASHBOARD):
        return False
    site = headers.get("sec-fetch-site")
    if site is not None:
        return site not in ("same-origin", "none")
    origin = headers.get("origin")
    return origin is not None and origin.lower().partition("://")[2] != headers.get("host", "").lower()


def _is_for_us(headers: Headers) -> bool:
    """Not a preflight for a method that nothing here has: the middleware would refuse it in words of its own."""
    return headers.get("access-control-request-method", "GET") in METHODS
