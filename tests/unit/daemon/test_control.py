"""The control socket itself: whose folder it is, who is at its other end, and what is left of it."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import os
import shutil
import socket
import stat
import tempfile
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from gemmad.api.peer import peer_of
from gemmad.cli.health import UnixConnection
from gemmad.config.keys import Change
from gemmad.config.paths import find_paths
from gemmad.daemon.control import ControlSocket, folder_lock, peer_at, told_reload, wardens
from gemmad.daemon.reload import ReloadOutcome
from gemmad.daemon.sockets import AddressTakenError
from tests.fakes.somebody import NOBODY, needs_root, somebody_else

PATIENCE_SECONDS = 20.0


# --- who --------------------------------------------------------------------------------------------------------------


def test_who_is_at_the_other_end() -> None:
    """The kernel tells pid, user and every group of who made the connection."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        peer = peer_at(ours)
    assert (peer.pid, peer.uid) == (os.getpid(), os.geteuid())
    assert peer.groups == {os.getegid(), *os.getgroups()}


@needs_root
def test_somebody_else_is_at_the_other_end() -> None:
    """It is the user of the moment that counts, with the groups that they had then."""
    with somebody_else(groups=[4242, 7]):
        ours, theirs = socket.socketpair()
    with ours, theirs:
        peer = peer_at(ours)
    assert peer.uid == NOBODY
    assert peer.groups == {NOBODY, 4242, 7}


def test_who_may() -> None:
    """Wardens are the daemon's own user and the group of that name, where there is one."""
    assert (wardens().uid, wardens().group_name) == (os.geteuid(), "gemmad")


# --- whose folder -----------------------------------------------------------------------------------------------------


def test_a_folder_belongs_to_one(tmp_path: Path) -> None:
    """Who has the folder is named to who wants it, and when they are done nothing is left."""
    folder = tmp_path / "run"
    with folder_lock(folder):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        with pytest.raises(AddressTakenError, match=f"pid {os.getpid()}"), folder_lock(folder):
            pass
        assert os.listdir(folder) == ["lock"]
    assert os.listdir(folder) == []
    with folder_lock(folder):
        pass


def test_what_a_killed_daemon_left_is_free(tmp_path: Path) -> None:
    """A lock's file whose owner is gone stops nobody."""
    (tmp_path / "lock").write_text("12345\n")
    with folder_lock(tmp_path) as path:
        assert path.read_text() == f"{os.getpid()}\n"


def test_a_folder_that_was_removed(tmp_path: Path) -> None:
    """A folder that is taken away and made anew belongs to who made it, whose lock stays when the other one ends."""
    folder = tmp_path / "run"
    with contextlib.ExitStack() as first:
        first.enter_context(folder_lock(folder))
        shutil.rmtree(folder)
        with folder_lock(folder):
            first.close()
            assert os.listdir(folder) == ["lock"]


# --- the socket -------------------------------------------------------------------------------------------------------


async def who(request: Request) -> Response:
    peer = peer_of(request)
    return JSONResponse({"pid": peer.pid, "uid": peer.uid, "groups": sorted(peer.groups)})


def control(folder: Path, *, url: str = "http://127.0.0.1:1") -> ControlSocket:
    paths = find_paths({"GEMMAD_RUNTIME_DIR": str(folder)})
    return ControlSocket(paths, Starlette(routes=[Route("/", who)]), url=url, retry_seconds=0.02)


@contextlib.asynccontextmanager
async def running(control: ControlSocket) -> AsyncIterator[asyncio.Task[None]]:
    task = asyncio.create_task(control.run())
    try:
        yield task
    finally:
        async with asyncio.timeout(PATIENCE_SECONDS):
            await control.stop()
            await task


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not condition():
            await asyncio.sleep(0.01)


def ask(path: Path) -> int:
    """The status of an answer, 0 for none."""
    connection = UnixConnection(path, PATIENCE_SECONDS)
    try:
        connection.request("GET", "/")
        return connection.getresponse().status
    except OSError:
        return 0
    finally:
        connection.close()


def test_it_serves_and_leaves_nothing(tmp_path: Path) -> None:
    """Everyone may connect; the folder says where the API is, and is empty in the end."""

    async def main() -> None:
        async with running(control(tmp_path)):
            path = tmp_path / "control.sock"
            await until(path.exists)
            assert await asyncio.to_thread(ask, path) == http.client.OK
            assert stat.S_IMODE(path.stat().st_mode) == 0o666
            assert (tmp_path / "address").read_text() == "http://127.0.0.1:1\n"
        assert os.listdir(tmp_path) == []

    asyncio.run(main())


def test_a_socket_that_was_left_behind(tmp_path: Path) -> None:
    """The files of a daemon that was killed are taken over."""
    path = tmp_path / "control.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    (tmp_path / "lock").write_text("12345\n")
    (tmp_path / "address").write_text("http://127.0.0.1:9\n")

    async def main() -> None:
        async with running(control(tmp_path)):
            await until(lambda: (tmp_path / "address").read_text() == "http://127.0.0.1:1\n")
            assert await asyncio.to_thread(ask, path) == http.client.OK
        assert os.listdir(tmp_path) == []

    asyncio.run(main())


def test_a_second_daemon_waits_for_the_folder(tmp_path: Path) -> None:
    """It goes on without, leaves the first one's files alone, and has the folder once the first one is gone."""
    path, address = tmp_path / "control.sock", tmp_path / "address"

    async def main() -> None:
        async with contextlib.AsyncExitStack() as first:
            await first.enter_async_context(running(control(tmp_path)))
            await until(path.exists)
            async with running(control(tmp_path, url="http://127.0.0.1:2")) as second:
                await asyncio.sleep(0.1)
                assert not second.done()
                assert address.read_text() == "http://127.0.0.1:1\n"
                assert await asyncio.to_thread(ask, path) == http.client.OK
                await first.aclose()
                await until(lambda: address.exists() and address.read_text() == "http://127.0.0.1:2\n")
                assert await asyncio.to_thread(ask, path) == http.client.OK
        assert os.listdir(tmp_path) == []

    asyncio.run(main())


def test_a_second_daemon_that_ends_first(tmp_path: Path) -> None:
    """One that never had the folder removes nothing from it."""

    async def main() -> None:
        async with running(control(tmp_path)):
            await until((tmp_path / "control.sock").exists)
            async with running(control(tmp_path, url="http://127.0.0.1:2")):
                await asyncio.sleep(0.05)
            assert sorted(os.listdir(tmp_path)) == ["address", "control.sock", "lock"]
            assert await asyncio.to_thread(ask, tmp_path / "control.sock") == http.client.OK

    asyncio.run(main())


def test_a_folder_that_cannot_be() -> None:
    """Without a folder, or with too long a name, there is no control socket, and it ends when it is told to."""

    async def main() -> None:
        async with running(control(Path("/dev/null/run"))) as task:
            await asyncio.sleep(0.05)
            assert not task.done()

    asyncio.run(main())


def test_a_name_that_is_too_long(tmp_path: Path) -> None:
    """Where the socket cannot be, the folder is still ours, and says where the API is."""
    folder = tmp_path / ("x" * 120)

    async def main() -> None:
        async with running(control(folder)) as task:
            await asyncio.sleep(0.05)
            assert not task.done()
            assert sorted(os.listdir(folder)) == ["address", "lock"]
        assert os.listdir(folder) == []

    asyncio.run(main())


@needs_root
def test_requests_know_who_asks() -> None:
    """Each connection's user and groups reach the routes; a user without any rights may connect."""
    folder = Path(tempfile.mkdtemp(dir="/tmp"))
    folder.chmod(0o755)  # pytest's own folders are closed to others

    def ask_as_nobody() -> bytes:
        connection = UnixConnection(folder / "control.sock", PATIENCE_SECONDS)
        try:
            with somebody_else(groups=[4242]):
                connection.connect()
            connection.request("GET", "/")
            return connection.getresponse().read()
        finally:
            connection.close()

    async def main() -> None:
        async with running(control(folder)):
            await until((folder / "control.sock").exists)
            told = await asyncio.to_thread(ask_as_nobody)
            expected = f'{{"pid":{os.getpid()},"uid":{NOBODY},"groups":[4242,{NOBODY}]}}'
            assert told.decode() == expected

    try:
        asyncio.run(main())
    finally:
        shutil.rmtree(folder)


# --- the last reload --------------------------------------------------------------------------------------------------


def test_a_reload_as_it_is_told() -> None:
    """Keys and errors are told, values are not: one may be a secret."""
    assert told_reload(None, now=5.0) is None
    change = Change("server.port", 1, 2, "restart")
    told = told_reload(ReloadOutcome(2.0, applied=(change,), pending=(change,)), now=5.0)
    assert told is not None
    assert (told.ok, told.seconds_ago, told.applied) == (True, 3.0, ("server.port",))
    assert [(setting.key, setting.until) for setting in told.pending] == [("server.port", "restart")]
    refused = told_reload(ReloadOutcome(2.0, errors=("f:1: a: why",)), now=1.0)
    assert refused is not None
    assert (refused.ok, refused.seconds_ago, refused.errors) == (False, 0.0, ("f:1: a: why",))
