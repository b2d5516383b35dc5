from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from gemmad.config.schema import ServerSection
from gemmad.daemon.inherited import KEPT, Inherited, take_inherited
from gemmad.daemon.notify import Notifier
from gemmad.daemon.sockets import listen
from gemmad.errors import ConfigError

FIRST = 500
"""In a test the low numbers are others'."""


@pytest.fixture
def tcp() -> Iterator[socket.socket]:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen()
        yield sock


def handed(*sockets: socket.socket, names: str, pid: int | None = None) -> dict[str, str]:
    """As systemd hands them over."""
    for number, sock in enumerate(sockets):
        os.dup2(sock.fileno(), FIRST + number)
    meant_for = os.getpid() if pid is None else pid
    return {"LISTEN_PID": str(meant_for), "LISTEN_FDS": str(len(sockets)), "LISTEN_FDNAMES": names, "HOME": "/"}


def close(inherited: Inherited) -> None:
    for sock in (*inherited.given, *inherited.kept):
        sock.close()


def port(sock: socket.socket) -> int:
    found: int = sock.getsockname()[1]
    return found


def test_names_tell_them_apart(tcp: socket.socket) -> None:
    """What was kept for us and what a socket unit gives come in one row; the variables are gone afterwards, and no
    child inherits a descriptor."""
    env = handed(tcp, tcp, tcp, names=f"api:{KEPT}")
    inherited = take_inherited(env, first=FIRST)
    try:
        assert env == {"HOME": "/"}
        assert [sock.fileno() for sock in inherited.given] == [FIRST, FIRST + 2]
        assert [sock.fileno() for sock in inherited.kept] == [FIRST + 1]
        assert not os.get_inheritable(FIRST)
    finally:
        close(inherited)


@pytest.mark.parametrize("env", [{}, {"LISTEN_PID": "1", "LISTEN_FDS": "1"}, {"LISTEN_FDS": "x"}])
def test_nothing_for_us(env: dict[str, str]) -> None:
    """What is meant for another process, or makes no sense, is not taken."""
    assert take_inherited(env, first=FIRST) == Inherited()


def test_a_socket_that_cannot_be_served_on() -> None:
    """A socket unit with the wrong kind of socket is told; a kept one that is no good is made anew."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as wrong:
        with pytest.raises(ConfigError, match="socket unit"):
            take_inherited(handed(wrong, names="api"), first=FIRST)
        assert take_inherited(handed(wrong, names=KEPT), first=FIRST) == Inherited()
    with socket.socket() as silent, pytest.raises(ConfigError, match="Accept=yes"):
        take_inherited(handed(silent, names="api"), first=FIRST)


def test_a_socket_units_sockets_win(tcp: socket.socket) -> None:
    """With a socket unit its address is listened on, whatever is configured, and nothing is kept for later."""
    inherited = take_inherited(handed(tcp, names="api"), first=FIRST)
    with listen(ServerSection(port=1), inherited=inherited) as listening:
        assert listening.url == f"http://127.0.0.1:{port(tcp)}"
        assert not inherited.leads_outside


def test_a_socket_unit_may_lead_outside() -> None:
    """A socket unit on every address of the machine counts as open to others."""
    with socket.socket() as sock:
        sock.bind(("0.0.0.0", 0))
        sock.listen()
        inherited = take_inherited(handed(sock, names="api"), first=FIRST)
        assert inherited.leads_outside
        close(inherited)


def test_a_kept_socket_is_taken_back(tcp: socket.socket) -> None:
    """Where the address is still the configured one, the kept socket is listened on; port 0 keeps the port."""
    for wanted in (port(tcp), 0):
        inherited = take_inherited(handed(tcp, names=KEPT), first=FIRST)
        with listen(ServerSection(port=wanted), inherited=inherited) as listening:
            assert [sock.fileno() for sock in listening.sockets] == [FIRST]
            assert listening.url == f"http://127.0.0.1:{port(tcp)}"


def test_a_kept_socket_of_another_address_is_let_go(tcp: socket.socket, tmp_path: Path) -> None:
    """Once the configured address is another, the kept socket is closed here and with the manager, and the new one is
    kept instead."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(5)
        notifier = Notifier({"NOTIFY_SOCKET": str(tmp_path / "notify")})
        inherited = take_inherited(handed(tcp, names=KEPT), first=FIRST)
        with listen(ServerSection(uds=tmp_path / "api"), inherited=inherited, notifier=notifier) as listening:
            assert inherited.kept[0].fileno() == -1
            assert manager.recv(1024).decode() == f"FDSTOREREMOVE=1\nFDNAME={KEPT}"
            said, received, _, _ = socket.recv_fds(manager, 1024, 4)
            assert said.decode() == f"FDSTORE=1\nFDNAME={KEPT}"
            with socket.socket(fileno=received[0]) as kept:
                assert kept.getsockname() == listening.sockets[0].getsockname() == str(tmp_path / "api")
    assert (tmp_path / "api").is_socket()  # its name stays for the next daemon


def test_a_kept_unix_socket(tmp_path: Path) -> None:
    """A kept Unix socket is taken back as long as its name leads to it, and no longer."""
    path = tmp_path / "api"
    with closing(socket.socket(socket.AF_UNIX)) as sock:
        sock.bind(str(path))
        sock.listen()
        inherited = take_inherited(handed(sock, names=KEPT), first=FIRST)
        with listen(ServerSection(uds=path), inherited=inherited) as listening:
            assert [sock.fileno() for sock in listening.sockets] == [FIRST]
        assert not path.exists()
        inherited = take_inherited(handed(sock, names=KEPT), first=FIRST)
        with listen(ServerSection(uds=path), inherited=inherited) as listening:
            assert [sock.fileno() for sock in listening.sockets] != [FIRST]
