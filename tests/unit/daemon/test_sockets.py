from __future__ import annotations

import os
import socket
import stat
from pathlib import Path

import pytest

from gemmad.config.schema import ServerSection
from gemmad.daemon.sockets import AddressTakenError, listen
from gemmad.errors import ConfigError


def test_a_free_port() -> None:
    """With port 0 the URL has the port that was taken, and a client reaches it."""
    with listen(ServerSection(port=0)) as listening:
        port = int(listening.url.rpartition(":")[2])
        assert listening.url == f"http://127.0.0.1:{port}"
        socket.create_connection(("127.0.0.1", port)).close()


def test_a_name_with_several_addresses() -> None:
    """All addresses of a name share one port."""
    with listen(ServerSection(host="localhost", port=0)) as listening:
        assert len({sock.getsockname()[1] for sock in listening.sockets}) == 1


def test_a_port_in_use() -> None:
    """A taken port is said by its number."""
    with listen(ServerSection(port=0)) as first:
        port = int(first.url.rpartition(":")[2])
        with pytest.raises(AddressTakenError, match=f"port {port} on 127.0.0.1 is in use"):
            listen(ServerSection(port=port))
    listen(ServerSection(port=port)).close()


def test_a_host_that_is_none() -> None:
    """A host that leads nowhere is a wrong setting; an address that is not ours may become it."""
    with pytest.raises(ConfigError, match=r"server\.host"):
        listen(ServerSection(host="no such host", port=0))
    with pytest.raises(AddressTakenError, match=r"192\.0\.2\.1"):
        listen(ServerSection(host="192.0.2.1", port=0))


def test_a_unix_socket(tmp_path: Path) -> None:
    """It is for owner and group only from the first moment on, and gone afterwards."""
    path = tmp_path / "sock"
    with listen(ServerSection(uds=path)) as listening:
        assert listening.url == f"unix:{path}"
        assert stat.S_IMODE(path.stat().st_mode) == 0o660
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))
    assert not path.exists()


def test_a_unix_socket_that_was_left_behind(tmp_path: Path) -> None:
    """The file of a daemon that is gone is taken over, that of one that lives is not."""
    path = tmp_path / "sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    with listen(ServerSection(uds=path)):
        with pytest.raises(AddressTakenError, match="another process listens"):
            listen(ServerSection(uds=path))
        assert path.exists()


def test_what_is_no_socket(tmp_path: Path) -> None:
    """A file that is something else is never removed."""
    path = tmp_path / "notes"
    path.write_text("mine")
    with pytest.raises(ConfigError, match="is no socket"):
        listen(ServerSection(uds=path))
    assert path.read_text() == "mine"
    with pytest.raises(ConfigError, match="longer than"):
        listen(ServerSection(uds=tmp_path / ("x" * 200)))
    with pytest.raises(ConfigError, match="cannot listen"):
        listen(ServerSection(uds=tmp_path / "no folder" / "sock"))


def test_a_file_of_somebody_else(tmp_path: Path) -> None:
    """What another daemon has put in our place meanwhile stays."""
    path = tmp_path / "sock"
    listening = listen(ServerSection(uds=path))
    path.unlink()
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(path))
        os.utime(path)
        listening.close()
        assert path.exists()
