"""Sockets that the service manager hands over at the start: a socket unit's, and what it kept for the last daemon.

systemd passes descriptors from 3 on and tells how many, for whom and under which names in LISTEN_FDS, LISTEN_PID and
LISTEN_FDNAMES (sd_listen_fds(3)). What it kept comes in the same row, told apart by its name.
"""

from __future__ import annotations

import os
import select
import socket
from collections.abc import MutableMapping
from ipaddress import IPv6Address, ip_address

from msgspec import Struct

from gemmad.errors import ConfigError

KEPT = "gemmad-api"
"""The name of what the manager keeps from one daemon for the next."""
_FIRST_DESCRIPTOR = 3
_PROBE_SECONDS = 0.2
_VARIABLES = ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES")


class Inherited(Struct, frozen=True):
    """Listening sockets that are ours from here on."""

    given: tuple[socket.socket, ...] = ()
    """A socket unit's: they are listened on instead of the configured address."""
    kept: tuple[socket.socket, ...] = ()
    """The last daemon's own: they are listened on where their address still is the configured one."""

    @property
    def leads_outside(self) -> bool:
        """Whether other machines may reach any of `given`."""
        return any(leads_outside(sock) for sock in self.given)


def take_inherited(
    env: MutableMapping[str, str], *, pid: int | None = None, first: int = _FIRST_DESCRIPTOR
) -> Inherited:
    """What was handed over, and out of `env` with its variables: no child is to take it for its own.

    Raises ConfigError for a socket unit's descriptor that cannot be served on.
    """
    meant_for, count, names = (env.pop(name, "") for name in _VARIABLES)
    if meant_for != str(os.getpid() if pid is None else pid) or not count.isdecimal():
        return Inherited()
    given: list[socket.socket] = []
    kept: list[socket.socket] = []
    labels = names.split(":")
    for number in range(int(count)):
        label = labels[number] if number < len(labels) else ""
        os.set_inheritable(first + number, False)
        try:
            sock = _listening(first + number)
        except (OSError, ValueError) as error:
            if label == KEPT:  # it can be made anew
                continue
            raise ConfigError(f"socket unit: descriptor {first + number} ({label or 'no name'}): {error}") from error
        (kept if label == KEPT else given).append(sock)
    return Inherited(tuple(given), tuple(kept))


def leads_outside(sock: socket.socket) -> bool:
    """Whether other machines may reach a listening socket: any but a Unix socket and loopback."""
    return sock.family != socket.AF_UNIX and not is_loopback(str(sock.getsockname()[0]))


def is_loopback(text: str) -> bool:
    """Whether an address, as text, is this machine's own."""
    address = ip_address(text.partition("%")[0])
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return (mapped or address).is_loopback


def url_of(sock: socket.socket) -> str:
    """`http://host:port`, or `unix:/path`."""
    address = sock.getsockname()
    if sock.family == socket.AF_UNIX:
        return f"unix:{address}"
    host = f"[{address[0]}]" if sock.family == socket.AF_INET6 else address[0]
    return f"http://{host}:{address[1]}"


def is_found(sock: socket.socket) -> bool:
    """Whether who connects to the name of a Unix socket arrives at `sock`: it may be gone, or another's by now."""
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(_PROBE_SECONDS)
        try:
            probe.connect(sock.getsockname())
        except OSError:
            return False
        return bool(select.select([sock], [], [], _PROBE_SECONDS)[0])


def _listening(descriptor: int) -> socket.socket:
    sock = socket.socket(fileno=descriptor)
    try:
        _check(sock)
    except BaseException:
        sock.close()
        raise
    sock.setblocking(False)
    return sock


def _check(sock: socket.socket) -> None:
    if sock.family not in (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX) or sock.type != socket.SOCK_STREAM:
        raise ValueError("only stream sockets can be served on")
    if not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        raise ValueError("it does not listen: a socket unit for gemmad has no Accept=yes")
