"""Sockets that the daemon listens on, made by itself: it says who is in the way, and leaves nothing behind."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
from pathlib import Path

from gemmad.config.schema import ServerSection
from gemmad.errors import ConfigError, GemmadError

BACKLOG = 2048
UDS_MODE = 0o660
_MAX_UDS_BYTES = 107


class AddressTakenError(GemmadError):
    """Something else listens there, or the address is not there yet: the same settings may work later."""


class Listening:
    """Bound and listening sockets, and how a client names them. `close()` also removes a Unix socket's file."""

    def __init__(self, sockets: list[socket.socket], url: str, *, uds: Path | None = None) -> None:
        self.sockets = sockets
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


def listen(section: ServerSection) -> Listening:
    """Take the address. Raises AddressTakenError, or ConfigError for one that can never be taken."""
    if section.uds is not None:
        return listen_unix(section.uds.absolute(), mode=UDS_MODE, name="server.uds")
    return _listen_tcp(section.host, section.port)


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


def _listen_tcp(host: str, port: int) -> Listening:
    """On every address of the name; with port 0 they share the port that the first one got."""
    try:
        found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        raise ConfigError(f"server.host: {host!r} is no address: {error.strerror or error}") from error
    sockets: list[socket.socket] = []
    failure: OSError | None = None
    for family, kind, protocol, _, address in dict.fromkeys(found):
        try:
            sockets.append(_bind(socket.socket(family, kind, protocol), (address[0], port, *address[2:])))
        except OSError as error:
            if error.errno not in (
                errno.EADDRNOTAVAIL,
                errno.EAFNOSUPPORT,
            ):  # a name may lead to ::1 on a host without IPv6
                _close_all(sockets)
                raise _explain(error, host, port) from error
            failure = error
            continue
        port = sockets[0].getsockname()[1]
    if failure is not None and not sockets:
        raise _explain(failure, host, port) from failure
    shown = f"[{host}]" if ":" in host else host or "localhost"
    return Listening(sockets, f"http://{shown}:{port}")


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


def _close_all(sockets: list[socket.socket]) -> None:
    for sock in sockets:
        sock.close()
