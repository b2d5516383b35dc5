"""An http or https URL → the bytes it leads to, wherever strangers' URLs may lead. Runs in a media process only.

Each hop is taken in this order: the name is resolved once; if any of its addresses may not be reached the URL is
refused; then a connection goes to one of exactly those addresses, so that no second look-up can answer differently.
The name itself stays in the Host header and is the one that the certificate must carry. Redirects are followed here,
each a hop of its own. No proxies, no netrc, no cookies, and no connection outlives its hop: one that was verified for a
name must not serve another at the same address.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import time
from collections.abc import Callable, Sequence

import httpx

from gemmad.errors import InvalidRequestError
from gemmad.media.addresses import Address, kind_of, may_connect, parse_address
from gemmad.media.urls import require_sane, scheme_of, shown, too_many_bytes

MAX_REDIRECTS = 5
MAX_ADDRESSES = 3
"""Of one name that are tried in turn."""
CONNECT_SECONDS = 5.0
REDIRECTS = frozenset({301, 302, 303, 307, 308})
HEADERS = {
    "Accept": "image/webp,image/png,image/jpeg,image/gif,image/bmp",
    "Accept-Encoding": "identity",
    "User-Agent": "gemmad",
}

Resolver = Callable[[str, int], Sequence[str]]
"""Host and port → addresses as text, best first. Raises OSError."""


def resolve_host(host: str, port: int) -> list[str]:
    """The system's resolver."""
    return [str(entry[4][0]) for entry in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]


class Fetcher:
    """Fetches images one at a time; holds nothing but the trusted certificates."""

    def __init__(
        self,
        *,
        resolve: Resolver = resolve_host,
        tls: ssl.SSLContext | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._resolve = resolve
        self._tls = httpx.create_ssl_context() if tls is None else tls  # honours SSL_CERT_FILE and SSL_CERT_DIR
        self._clock = clock

    def fetch(self, url: str, *, max_bytes: int, allow_private: bool, deadline: float) -> bytes:
        """The body of the 200 that `url` leads to. `deadline` is on the clock. Raises InvalidRequestError."""
        target = _parse(url)
        for _ in range(MAX_REDIRECTS + 1):
            addresses = self._addresses(target, allow_private=allow_private)
            outcome = self._hop(target, addresses, max_bytes, deadline)
            if isinstance(outcome, bytes):
                return outcome
            target = outcome
        raise _failed(f"The image's URL redirects more than {MAX_REDIRECTS} times.")

    def _addresses(self, target: httpx.URL, *, allow_private: bool) -> list[Address]:
        """Where the name leads. One address that may not be reached spoils them all."""
        host = target.raw_host.decode("ascii")
        try:
            addresses = [parse_address(text) for text in self._resolve(host, _port(target))]
        except (OSError, ValueError) as error:  # ValueError: a label that no name can have
            raise _failed(f"The host of the image's URL {shown(str(target))} was not found.") from error
        if not addresses:
            raise _failed(f"The host of the image's URL {shown(str(target))} has no address.")
        for address in addresses:
            if not may_connect(address, allow_private=allow_private):
                raise InvalidRequestError(
                    f"The image's URL {shown(str(target))} leads to a {kind_of(address)} address.",
                    code="invalid_image_url",
                )
        return addresses[:MAX_ADDRESSES]

    def _hop(
        self, target: httpx.URL, addresses: Sequence[Address], max_bytes: int, deadline: float
    ) -> bytes | httpx.URL:
        """The body, or where a redirect leads."""
        failure: Exception | None = None
        for address in addresses:
            try:
                return self._get(target, address, max_bytes, deadline)
            except (httpx.ConnectError, httpx.ConnectTimeout) as error:
                failure = error
            except httpx.TimeoutException as error:
                raise _overdue(target) from error
            except httpx.HTTPError as error:
                raise _failed(f"The server of the image's URL {shown(str(target))} broke off.") from error
        certificate = any(isinstance(error, ssl.SSLCertVerificationError) for error in _causes(failure))
        trouble = "has no certificate that is trusted" if certificate else "could not be reached"
        raise _failed(f"The server of the image's URL {shown(str(target))} {trouble}.") from failure

    def _get(self, target: httpx.URL, address: Address, max_bytes: int, deadline: float) -> bytes | httpx.URL:
        remaining = deadline - self._clock()
        if remaining <= 0:
            raise _overdue(target)
        with httpx.HTTPTransport(verify=self._tls, trust_env=False) as transport:
            response = transport.handle_request(_request(target, address, remaining))
            with contextlib.closing(response):
                if response.status_code in REDIRECTS:
                    return _redirected(target, response)
                if response.status_code != 200:
                    status = response.status_code
                    raise _failed(f"The server of the image's URL {shown(str(target))} answered with status {status}.")
                return self._body(target, response, max_bytes, deadline)

    def _body(self, target: httpx.URL, response: httpx.Response, max_bytes: int, deadline: float) -> bytes:
        """The bytes as they are on the wire: nothing is unpacked that would turn out larger than it came."""
        encoding = response.headers.get("Content-Encoding", "identity")
        if encoding.strip().lower() not in {"", "identity"}:
            raise _failed("The image's server sent it compressed, which was not asked for.")
        announced = response.headers.get("Content-Length", "")
        if announced.isdecimal() and int(announced) > max_bytes:
            raise too_many_bytes(max_bytes, int(announced))
        body = bytearray()
        for chunk in response.iter_raw():
            body += chunk
            if len(body) > max_bytes:
                raise too_many_bytes(max_bytes)
            if self._clock() > deadline:
                raise _overdue(target)
        return bytes(body)


def _parse(url: str) -> httpx.URL:
    url = url.strip()
    if scheme_of(url) == "data":  # a redirect; no one else comes here with one
        raise _refused("The image's URL leads to a data: URL.")
    require_sane(url)
    try:
        target = httpx.URL(url)
    except (httpx.InvalidURL, ValueError) as error:
        raise _refused(f"The image's URL {shown(url)} is not valid.") from error
    if not target.raw_host:
        raise _refused(f"The image's URL {shown(url)} names no host.")
    if target.port is not None and not 1 <= target.port <= 65535:
        raise _refused(f"The image's URL {shown(url)} names a port that does not exist.")
    if target.userinfo:
        raise _refused("The image's URL carries a user name or password, which is not allowed.")
    return target


def _request(target: httpx.URL, address: Address, seconds: float) -> httpx.Request:
    """A GET that goes to `address` and asks for the name, in its Host header as in its TLS handshake."""
    timeout = httpx.Timeout(seconds, connect=min(seconds, CONNECT_SECONDS))
    extensions: dict[str, object] = {"timeout": timeout.as_dict()}
    if target.scheme == "https" and not _is_address(target):
        extensions["sni_hostname"] = target.raw_host.decode("ascii").rstrip(".")
    return httpx.Request(
        "GET",
        target.copy_with(host=str(address), fragment=None),
        headers=HEADERS | {"Host": target.netloc.decode("ascii")},
        extensions=extensions,
    )


def _redirected(target: httpx.URL, response: httpx.Response) -> httpx.URL:
    location = response.headers.get("Location", "")
    if not location:
        raise _failed(f"The server of the image's URL {shown(str(target))} redirects to nowhere.")
    try:
        joined = str(target.join(location))
    except (httpx.InvalidURL, ValueError) as error:
        raise _refused(f"The image's URL redirects to {shown(location)}, which is not valid.") from error
    return _parse(joined)


def _port(target: httpx.URL) -> int:
    return target.port or {"http": 80, "https": 443}[target.scheme]


def _is_address(target: httpx.URL) -> bool:
    try:
        parse_address(target.raw_host.decode("ascii"))
    except ValueError:
        return False
    return True


def _causes(error: BaseException | None) -> list[BaseException]:
    chain: list[BaseException] = []
    while error is not None and len(chain) < 10:
        chain.append(error)
        error = error.__cause__ or error.__context__
    return chain


def _refused(message: str) -> InvalidRequestError:
    return InvalidRequestError(message, code="invalid_image_url")


def _failed(message: str) -> InvalidRequestError:
    return InvalidRequestError(message, code="failed_to_download_image")


def _overdue(target: httpx.URL) -> InvalidRequestError:
    return _failed(f"The image behind {shown(str(target))} did not arrive in time.")
