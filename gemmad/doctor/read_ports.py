"""Who listens on a TCP port, as /proc tells."""

from __future__ import annotations

import ipaddress
import os
import socket
from collections.abc import Iterator
from pathlib import Path

from gemmad.doctor.facts import PortHolder

_LISTENS = "0A"
_WILDCARDS = frozenset({"0.0.0.0", "::"})  # noqa: S104 - to compare with


def read_port(host: str, port: int, *, proc: Path = Path("/proc")) -> tuple[PortHolder, ...]:
    """Those in the way of a daemon that wants to listen there; a name is looked up, which may take its time."""
    wanted = _addresses(host)
    found = []
    for address, inode, uid in _listeners(port, proc):
        if wanted & _WILDCARDS or address in wanted or address in _WILDCARDS:
            pid = _owner_of(inode, proc)
            found.append(PortHolder(address=address, uid=uid, pid=pid, name=None if pid is None else _name(pid, proc)))
    return tuple(found)


def _addresses(host: str) -> frozenset[str]:
    if not host:
        return _WILDCARDS
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError:
        return frozenset()
    return frozenset(str(address[0]) for *_, address in found)


def _listeners(port: int, proc: Path) -> Iterator[tuple[str, str, int]]:
    """Address, inode and uid of each socket that listens."""
    for name in ("tcp", "tcp6"):
        try:
            lines = (proc / "net" / name).read_text().splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            words = line.split()
            address, _, number = words[1].partition(":")
            if words[3] == _LISTENS and int(number, 16) == port:
                yield _readable(address), words[9], int(words[7])


def _readable(hexadecimal: str) -> str:
    """As the kernel prints it: 32-bit words in this machine's byte order."""
    raw = bytes.fromhex(hexadecimal)
    words = [raw[at : at + 4][::-1] for at in range(0, len(raw), 4)]
    return str(ipaddress.ip_address(b"".join(words)))


def _owner_of(inode: str, proc: Path) -> int | None:
    target = f"socket:[{inode}]"
    for name in sorted(filter(str.isdigit, os.listdir(proc)), key=int):
        try:
            with os.scandir(proc / name / "fd") as entries:
                if any(_leads_to(entry.path, target) for entry in entries):
                    return int(name)
        except OSError:  # somebody else's, or gone
            continue
    return None


def _leads_to(path: str, target: str) -> bool:
    try:
        return os.readlink(path) == target
    except OSError:
        return False


def _name(pid: int, proc: Path) -> str | None:
    try:
        return (proc / str(pid) / "comm").read_text().strip()
    except OSError:
        return None
