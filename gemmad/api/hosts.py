"""Whether a request is meant for this server.

A web page may give its own name the address 127.0.0.1 (DNS rebinding) and then is of the same origin as a server that
listens there, in the browser's eyes. Its requests still carry its name in `Host`, so what listens on loopback answers
to loopback's names only, and to those that the operator has listed.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from ipaddress import ip_address

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from gemmad.api.auth import refuse
from gemmad.config.schema import ServerSection
from gemmad.errors import MisdirectedError

_SHOWN_CHARACTERS = 100


class Hosts:
    """Refuses requests for other hosts.

    `exposed`: other machines can reach the address. Then there may be any number of names for it, and only where the
    operator has listed some are the others refused; addresses never are, no page can own one.
    """

    def __init__(self, app: ASGIApp, *, section: Callable[[], ServerSection], exposed: bool) -> None:
        self._app = app
        self._section = section
        self._exposed = exposed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or refuse it."""
        if scope["type"] == "http" and not _over_unix_socket(scope):
            host = Headers(scope=scope).get("host", "")
            if not self._is_ours(host):
                message = (
                    f"This server is not {host[:_SHOWN_CHARACTERS]!r}. Its setting server.allowed_hosts adds names."
                )
                await refuse(MisdirectedError(message), scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _is_ours(self, host: str) -> bool:
        allowed = self._section().allowed_hosts
        if not host or (self._exposed and not allowed):  # without a name, as of HTTP/1.0, it is no browser
            return True
        name = host_name(host)
        return is_loopback(name) or (self._exposed and _is_address(name)) or is_listed(name, allowed)


def host_name(host: str) -> str:
    """`Host` without its port and its final dot, in lower case; an IPv6 address keeps its brackets."""
    name, colon, port = host.strip().lower().rpartition(":")
    if not colon or not port.isdigit():
        name = host.strip().lower()
    return name.removesuffix(".")


def is_loopback(name: str) -> bool:
    """`localhost` and what is below it (RFC 6761), and loopback addresses."""
    if name == "localhost" or name.endswith(".localhost"):
        return True
    with contextlib.suppress(ValueError):
        return ip_address(name.strip("[]")).is_loopback
    return False


def is_listed(name: str, allowed: Sequence[str]) -> bool:
    """Whether one of `allowed` is this name, a `*.` above it, or `*`."""
    return any(
        entry in ("*", name) or (entry.startswith("*.") and name.endswith(entry.removeprefix("*"))) for entry in allowed
    )


def _is_address(name: str) -> bool:
    with contextlib.suppress(ValueError):
        ip_address(name.strip("[]"))
        return True
    return False


def _over_unix_socket(scope: Scope) -> bool:
    server = scope.get("server")
    return server is None or server[1] is None
