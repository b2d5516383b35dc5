"""Fetching images from servers that mean well, and from others."""

from __future__ import annotations

import gzip
import socket
import ssl
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from gemmad.errors import InvalidRequestError
from gemmad.media.fetch import MAX_REDIRECTS, Fetcher, resolve_host
from tests.fakes.media_server import CERTIFICATE, Server, by_path, drip, endless, redirect, respond, serving, silence

CAT = b"\x89PNG, a cat"
PLENTY = 1 << 20


class Names:
    """A resolver that knows what it is told, and counts how often it is asked."""

    def __init__(self, **addresses: Sequence[str]) -> None:
        self._addresses = {name.replace("_", "."): found for name, found in addresses.items()}
        self.asked: list[str] = []

    def __call__(self, host: str, port: int) -> Sequence[str]:
        self.asked.append(host)
        if host in self._addresses:
            return self._addresses[host]
        return resolve_host(host, port) if host[0].isdigit() or host == "::1" else _unknown()


def _unknown() -> Sequence[str]:
    raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")


def _get(
    url: str,
    *,
    names: Names | None = None,
    allow_private: bool = True,
    max_bytes: int = PLENTY,
    seconds: float = 30.0,
    tls: ssl.SSLContext | None = None,
) -> bytes:
    fetcher = Fetcher(resolve=names or Names(), tls=tls or _no_certificates())
    deadline = time.monotonic() + seconds
    return fetcher.fetch(url, max_bytes=max_bytes, allow_private=allow_private, deadline=deadline)


def _no_certificates() -> ssl.SSLContext:
    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


def _refusal(url: str, **options: object) -> InvalidRequestError:
    with pytest.raises(InvalidRequestError) as caught:
        _get(url, **options)  # type: ignore[arg-type]
    assert len(caught.value.message) < 300
    return caught.value


def test_a_picture_is_fetched() -> None:
    """The body of a 200 comes back; the request asks for images, uncompressed, and says nothing about us."""
    with serving(respond(CAT)) as server:
        assert _get(server.url("/cat.png?size=1")) == CAT
        head = server.heads[0].lower()
        assert head.startswith("get /cat.png?size=1 http/1.1\r\n")
        assert f"\r\nhost: 127.0.0.1:{server.port}\r\n" in head
        assert "\r\naccept-encoding: identity\r\n" in head
        assert "image/png" in head
        for name in ("cookie", "authorization", "referer", "python"):
            assert name not in head


def test_a_chunked_picture_is_fetched() -> None:
    """A body whose length is not announced comes back too."""
    chunked = b"5\r\n" + CAT[:5] + b"\r\n" + b"%x\r\n" % len(CAT[5:]) + CAT[5:] + b"\r\n0\r\n\r\n"

    def answer(connection: socket.socket, head: str) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunked)

    with serving(answer) as server:
        assert _get(server.url()) == CAT


def test_the_checked_address_is_the_one_connected_to() -> None:
    """A name is resolved once; the connection goes to that address and the name stays in the Host header."""
    names = Names(pictures_example=["127.0.0.1"])
    with serving(respond(CAT)) as server:
        assert _get(server.url(host="pictures.example"), names=names) == CAT
        assert f"\r\nHost: pictures.example:{server.port}\r\n" in server.heads[0]
    assert names.asked == ["pictures.example"]


def test_the_next_address_is_tried() -> None:
    """A name with several addresses is reached at the first that answers."""
    names = Names(pictures_example=["127.0.0.2", "127.0.0.1"])  # nothing listens on the former
    with serving(respond(CAT)) as server:
        assert _get(server.url(host="pictures.example"), names=names) == CAT


@pytest.mark.parametrize("host", ["127.0.0.1", "2130706433", "0x7f.1", "127.1", "pictures.example"])
def test_a_private_address_is_refused_before_connecting(host: str) -> None:
    """However loopback is spelt, the server never sees a connection."""
    with serving(respond(CAT)) as server:
        error = _refusal(server.url(host=host), names=Names(pictures_example=["127.0.0.1"]), allow_private=False)
        assert "leads to a loopback address" in error.message
        assert error.code == "invalid_image_url"
        assert server.connections == 0


@pytest.mark.parametrize("others", [["1.1.1.1", "127.0.0.1"], ["127.0.0.1", "1.1.1.1"], ["1.1.1.1", "::ffff:10.0.0.1"]])
def test_one_bad_address_spoils_a_name(others: list[str]) -> None:
    """A name that also leads somewhere forbidden is refused whichever comes first."""
    with serving(respond(CAT)) as server:
        error = _refusal(server.url(host="pictures.example"), names=Names(pictures_example=others), allow_private=False)
        assert "leads to a " in error.message
        assert server.connections == 0


def test_metadata_stays_shut_when_private_addresses_are_open() -> None:
    """allow_private does not open the addresses at which clouds hand out credentials."""
    assert "leads to a metadata address" in _refusal("http://169.254.169.254/latest/meta-data/").message
    assert "leads to a link-local address" in _refusal("http://x.example/", names=Names(x_example=["fe80::1"])).message


@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "303 See Other", "307 Temporary", "308 Permanent"])
def test_a_redirect_is_followed(status: str) -> None:
    """Relative and absolute, without the cookie it came with."""
    names = Names(pictures_example=["127.0.0.1"])
    with serving(by_path({})) as server:
        server._answer = by_path(
            {
                "/a": redirect("b/c", status=status),
                "/b/c": redirect(server.url("/d", host="pictures.example"), status=status),
                "/d": respond(CAT),
            }
        )
        assert _get(server.url("/a"), names=names) == CAT
        assert not any("cookie" in head.lower() for head in server.heads)
    assert names.asked == ["127.0.0.1", "127.0.0.1", "pictures.example"]


def test_redirects_have_a_bound() -> None:
    """The fifth redirect is followed, a sixth is not."""
    with serving(by_path({})) as server:
        paths = {f"/{n}": redirect(f"/{n + 1}") for n in range(MAX_REDIRECTS + 1)}
        server._answer = by_path(paths | {f"/{MAX_REDIRECTS + 1}": respond(CAT)})
        assert _get(server.url("/1")) == CAT
        assert _refusal(server.url("/0")).message == "The image's URL redirects more than 5 times."


def test_each_hop_is_checked_again() -> None:
    """A redirect to where no URL may lead is refused, by its address or its name."""
    names = Names(inside_example=["169.254.1.1"])
    for location in ("http://169.254.169.254/", "http://inside.example/", "//0.0.0.0/"):
        with serving(redirect(location)) as server:
            assert "leads to a " in _refusal(server.url(), names=names).message


@pytest.mark.parametrize(
    ("location", "words"),
    [
        ("file:///etc/passwd", "begins with file:"),
        ("ftp://127.0.0.1/", "begins with ftp:"),
        ("data:image/png;base64,AAAA", "leads to a data: URL"),
        ("http://user:secret@127.0.0.1/", "carries a user name or password"),
        ("http://[::1/", "not valid"),
        ("http://127.0.0.1:99999/", "port that does not exist"),
        ("/" + "a" * 9000, "characters; the limit is"),
        ("", "redirects to nowhere"),
    ],
)
def test_a_redirect_out_of_bounds_is_refused(location: str, words: str) -> None:
    """What no URL may be, no redirect may be."""
    with serving(redirect(location)) as server:
        error = _refusal(server.url())
        assert words in error.message
        assert "secret" not in error.message


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("file:///etc/passwd", "begins with file:"),
        ("http://", "names no host"),
        ("http:///cat.png", "names no host"),
        ("http://user@127.0.0.1/", "carries a user name or password"),
        ("http://127.0.0.1\\@evil.example/", "carries a user name or password"),
        ("http://[::1/", "is not valid"),
        ("http://127.0.0.1:0/", "port that does not exist"),
        ("http://127.0.0.1:65536/", "port that does not exist"),
        ("http://a\nb/", "is not valid"),
        ("http://0177.0.0.1/", "is not valid"),
        ("http://nowhere.example/", "was not found"),
        ("http://" + "a" * 70 + ".example/", "was not found"),
        ("http://h/" + "a" * 9000, "characters; the limit is"),
    ],
)
def test_a_url_out_of_bounds_is_refused(url: str, words: str) -> None:
    """Each fault is named."""
    assert words in _refusal(url).message


def test_a_label_that_no_name_can_have_is_not_found() -> None:
    """The system's resolver refusing to try is an answer too."""
    with pytest.raises(InvalidRequestError, match="was not found"):
        Fetcher(tls=_no_certificates()).fetch(
            "http://a..b/", max_bytes=1, allow_private=False, deadline=time.monotonic() + 5
        )


def test_a_name_without_addresses_is_refused() -> None:
    """An empty answer leads nowhere."""
    assert "has no address" in _refusal("http://x.example/", names=Names(x_example=[])).message


def test_long_urls_are_not_echoed() -> None:
    """An error shows a hundred characters of a URL at most."""
    with serving(respond(status="404 Not Found")) as server:
        message = _refusal(server.url("/" + "a" * 1000)).message
    assert "answered with status 404" in message
    assert "a" * 100 not in message


@pytest.mark.parametrize("status", ["204 No Content", "206 Partial", "304 Not Modified", "404 Not Found", "500 Oh"])
def test_only_a_200_is_a_picture(status: str) -> None:
    """Any other status is refused by its number."""
    with serving(respond(status=status)) as server:
        error = _refusal(server.url())
        assert f"answered with status {status[:3]}" in error.message
        assert error.code == "failed_to_download_image"


def test_an_announced_length_is_refused_early() -> None:
    """A Content-Length over the limit is refused before the body comes."""
    with serving(respond(headers={"Content-Length": "1001"})) as server:
        error = _refusal(server.url(), max_bytes=1000)
        assert error.message == "The image file has 1001 bytes; the limit is 1000."
        assert error.code == "image_file_too_large"


def test_an_endless_body_is_cut_at_the_limit() -> None:
    """A body that never ends is refused when it is over the limit; one at the limit is taken."""
    with serving(endless) as server:
        assert _refusal(server.url(), max_bytes=200_000).code == "image_file_too_large"
    with serving(respond(bytes(1000))) as server:
        assert len(_get(server.url(), max_bytes=1000)) == 1000


def test_nothing_is_unpacked() -> None:
    """A compressed body, which may be a bomb, is refused without unpacking it."""
    bomb = gzip.compress(bytes(10 << 20))
    with serving(respond(bomb, headers={"Content-Encoding": "gzip"})) as server:
        assert "sent it compressed" in _refusal(server.url()).message
    with serving(respond(CAT, headers={"Content-Encoding": "identity"})) as server:
        assert _get(server.url()) == CAT


@pytest.mark.parametrize("answer", [drip(0.02), silence], ids=["drip", "silence"])
def test_a_slow_server_runs_out_of_time(answer: object) -> None:
    """One that trickles or says nothing is left at the deadline."""
    with serving(answer) as server:  # type: ignore[arg-type]
        began = time.monotonic()
        error = _refusal(server.url(), seconds=0.3)
        assert 0.2 < time.monotonic() - began < 5
        assert "did not arrive in time" in error.message


def test_a_deadline_that_has_passed_connects_nowhere() -> None:
    """Time that went into earlier hops counts."""
    with serving(respond(CAT)) as server:
        assert "did not arrive in time" in _refusal(server.url(), seconds=0).message
        assert server.connections == 0


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"nonsense\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\n" + b"a" * 200_000,
    ],
    ids=["nothing", "nonsense", "too short", "endless header"],
)
def test_a_server_that_breaks_off_is_refused(raw: bytes) -> None:
    """What is no HTTP, or stops in the middle, is no picture."""

    def answer(connection: socket.socket, head: str) -> None:
        connection.sendall(raw)

    with serving(answer) as server:
        error = _refusal(server.url())
        assert "broke off" in error.message
        assert error.code == "failed_to_download_image"


def test_no_server_is_refused() -> None:
    """A port at which nobody listens cannot be reached."""
    with serving(silence) as server:
        url = server.url()
    assert "could not be reached" in _refusal(url).message


def test_the_environment_is_not_asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Proxies and netrc of whoever started the daemon are not used."""
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login user password secret\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))
    with serving(respond(b"proxied")) as proxy, serving(respond(CAT)) as server:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.url(""))
        assert _get(server.url()) == CAT
        assert proxy.connections == 0
        assert "authorization" not in server.heads[0].lower()


def _trusting() -> ssl.SSLContext:
    return ssl.create_default_context(cafile=CERTIFICATE)


def test_the_certificate_must_carry_the_name() -> None:
    """Over TLS the name, not the address, is what is asked for and verified."""
    names = Names(pictures_example=["127.0.0.1"], other_example=["127.0.0.1"])
    with Server(respond(CAT), tls=True) as server:
        url = server.url(host="pictures.example", scheme="https")
        assert _get(url, names=names, tls=_trusting()) == CAT
        for host in ("other.example", "127.0.0.1"):
            error = _refusal(server.url(host=host, scheme="https"), names=names, tls=_trusting())
            assert "no certificate that is trusted" in error.message
    assert len(server.heads) == 1


def test_an_unknown_certificate_is_refused() -> None:
    """A certificate that nobody vouches for carries no name at all."""
    names = Names(pictures_example=["127.0.0.1"])
    with Server(respond(CAT), tls=True) as server:
        error = _refusal(
            server.url(host="pictures.example", scheme="https"), names=names, tls=ssl.create_default_context()
        )
        assert "no certificate that is trusted" in error.message
        assert server.heads == []
