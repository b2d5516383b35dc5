"""Sockets that the daemon listens on, made by itself: it says who is in the way, and leaves nothing behind."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
from collections.abc import Iterable, Sequence
from pathlib import Path

from gemmad.config.schema import ServerSection
from gemmad.daemon.inherited import KEPT, Inherited, is_found, is_loopback, url_of
from gemmad.daemon.notify import Notifier
from gemmad.errors import ConfigError, GemmadError

BACKLOG = 2048
UDS_MODE = 0o660
_MAX_UDS_BYTES = 107


class AddressTakenError(GemmadError):
    """Something else listens there, or the address is not there yet: the same settings may work later."""


class Listening:
    """Bound and listening sockets, and how a client names them. `close()` also removes a Unix socket's file."""

    def __init__(self, sockets: Sequence[socket.socket], url: str, *, uds: Path | None = None) -> None:
        """`uds`: the file that is ours to remove."""
        self.sockets = list(sockets)
        self.url = url
        """`http://host:port`, or `unix:/path`."""
        self.uds = uds
        self._inode = os.stat(uds).st_ino if uds is not None else None

    def close(self) -> None:
        """Stop listening. A file that somebody else has put there meanwhile stays."""
        for sock in self.sockets:
            sock.close()
        if self.uds is not None:
            with contextlib.suppress(OSError):
                if os.lstat(self.uds).st_ino == self._inode:
                    self.uds.unlink()

    def __enter__(self) -> Listening:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def listen(
    section: ServerSection, *, inherited: Inherited | None = None, notifier: Notifier | None = None
) -> Listening:
    """Take the address, or what was handed over; a service manager is asked to keep the sockets for the next daemon.

    Raises AddressTakenError, or ConfigError for an address that can never be taken.
    """
    inherited = inherited or Inherited()
    if inherited.given:
        _close_all(inherited.kept)
        return Listening(inherited.given, url_of(inherited.given[0]))
    try:
        if section.uds is not None:
            listening = _listen_uds(section.uds.absolute(), inherited.kept)
        else:
            listening = _listen_tcp(section.host, section.port, kept=inherited.kept)
    except BaseException:
        _close_all(inherited.kept)
        raise
    unused = [sock for sock in inherited.kept if sock not in listening.sockets]
    _close_all(unused)
    if notifier is not None:
        if unused:
            notifier.let_go(KEPT)
        if notifier.keep(KEPT, [sock.fileno() for sock in listening.sockets]):
            listening.uds = None  # it stays connectable for the next daemon
    return listening


def _listen_uds(path: Path, kept: Sequence[socket.socket]) -> Listening:
    for sock in kept:
        if sock.family == socket.AF_UNIX and sock.getsockname() == str(path) and is_found(sock):
            return Listening([sock], f"unix:{path}", uds=path)
    return listen_unix(path, mode=UDS_MODE, name="server.uds")


def listen_unix(path: Path, *, mode: int, name: str) -> Listening:
    """Take a Unix socket that those may connect to whom `mode` lets; `name` is what errors call it. Raises as
    `listen`."""
    if len(os.fsencode(path)) > _MAX_UDS_BYTES:
        raise ConfigError(f"{name}: {path} is longer than the {_MAX_UDS_BYTES} bytes that a socket's name may have")
    _clear_the_way(path, name)
    sock = socket.socket(socket.AF_UNIX)
    try:
        sock.bind(str(path))
        path.chmod(mode)  # nobody connects before it listens
        sock.listen(BACKLOG)
        sock.setblocking(False)
    except OSError as error:
        sock.close()
        if error.errno == errno.EADDRINUSE:
            raise AddressTakenError(f"another process has just taken {path}") from error
        raise ConfigError(f"{name}: cannot listen on {path}: {error.strerror}") from error
    return Listening([sock], f"unix:{path}", uds=path)


def leads_outside(section: ServerSection) -> bool:
    """Whether the address is one that other machines may reach: any but a Unix socket and loopback."""
    if section.uds is not None:
        return False
    try:
        found = socket.getaddrinfo(section.host or None, section.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError:  # `listen` says what is wrong with it
        return False
    return not all(is_loopback(str(address[0])) for *_, address in found)


def _listen_tcp(host: str, port: int, *, kept: Sequence[socket.socket] = ()) -> Listening:
    """On every address of the name, with those of `kept` that have it; with port 0 they share the port that the first
    one got."""
    try:
        found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        raise ConfigError(f"server.host: {host!r} is no address: {error.strerror or error}") from error
    sockets: list[socket.socket] = []
    failure: OSError | None = None
    for family, kind, protocol, _, address in dict.fromkeys(found):
        wanted = (address[0], port, *address[2:])
        try:
            sockets.append(_find(kept, wanted) or _bind(socket.socket(family, kind, protocol), wanted))
        except OSError as error:
            if error.errno not in (
                errno.EADDRNOTAVAIL,
                errno.EAFNOSUPPORT,
            ):  # a name may lead to ::1 on a host without IPv6
                _close_all(sock for sock in sockets if sock not in kept)
                raise _explain(error, host, port) from error
            failure = error
            continue
        port = sockets[0].getsockname()[1]
    if failure is not None and not sockets:
        raise _explain(failure, host, port) from failure
    shown = f"[{host}]" if ":" in host else host or "localhost"
    return Listening(sockets, f"http://{shown}:{port}")


def _find(kept: Sequence[socket.socket], wanted: tuple[object, ...]) -> socket.socket | None:
    """The one at this address; any port is right for port 0."""
    for sock in kept:
        if sock.family == socket.AF_UNIX:
            continue
        host, port, *rest = sock.getsockname()
        if (host, *rest) == (wanted[0], *wanted[2:]) and wanted[1] in (0, port):
            return sock
    return None


def _bind(sock: socket.socket, address: tuple[object, ...]) -> socket.socket:
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if sock.family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(address)
        sock.listen(BACKLOG)
    except OSError:
        sock.close()
        raise
    sock.setblocking(False)
    return sock


def _explain(error: OSError, host: str, port: int) -> GemmadError:
    match error.errno:
        case errno.EADDRINUSE:
            return AddressTakenError(f"port {port} on {host} is in use by another process; choose one with --port")
        case errno.EACCES | errno.EPERM:
            return ConfigError(f"server.port: no permission to listen on port {port}; choose one above 1023")
        case _:
            return AddressTakenError(f"cannot listen on {host} port {port}: {error.strerror}")


def _clear_the_way(path: Path, name: str) -> None:
    """Remove the socket file of a daemon that is gone. Raises when one lives there, or something else lies there."""
    try:
        kind = path.lstat().st_mode
    except FileNotFoundError:
        return
    except OSError as error:
        raise ConfigError(f"{name}: {path}: {error.strerror}") from error
    if not stat.S_ISSOCK(kind):
        raise ConfigError(f"{name}: {path} is there and is no socket")
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            path.unlink(missing_ok=True)
            return
        except OSError as error:
            raise AddressTakenError(f"{path} is there and does not answer: {error.strerror or error}") from error
    raise AddressTakenError(f"another process listens on {path}")


def _close_all(sockets: Iterable[socket.socket]) -> None:
    for sock in sockets:
        sock.close()
