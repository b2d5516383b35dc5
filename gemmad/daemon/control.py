"""The control socket: where operators ask the running daemon, never on the API's port.

It lies in the runtime folder, beside `address`, which says where the API listens. A folder belongs to one daemon, which
holds the lock on `lock` there. A second daemon with the same folder serves all the same, without a control socket, and
has the folder once the first one is gone; whoever wants to control both gives each a folder of its own.

Everyone may connect. Who they are is what the kernel says of the connection (SO_PEERCRED), and what they then may is
decided by `gemmad.api.peer`.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import grp
import os
import socket
import struct
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from starlette.types import ASGIApp

from gemmad.api.admin import AdminServices, create_admin_app
from gemmad.api.operator import Levers, Operator
from gemmad.api.overview import ConfigDiff, PendingSetting, Reload, SettingDiff
from gemmad.api.peer import Peer, Wardens
from gemmad.config.document import told_value
from gemmad.config.keys import Change
from gemmad.config.paths import CONTROL_SOCKET, Paths, make_private
from gemmad.config.schema import Config
from gemmad.daemon.announce import address_file
from gemmad.daemon.reload import Reloader, ReloadOutcome
from gemmad.daemon.server import HttpProtocol, HttpServer
from gemmad.daemon.sockets import AddressTakenError, Listening, listen_unix
from gemmad.errors import GemmadError
from gemmad.logs import get_logger
from gemmad.supervisor.pool import Pool

SOCKET_MODE = 0o666
LOCK = "lock"
OPERATORS = "gemmad"
"""Whose group may change things."""
RETRY_SECONDS = 2.0
"""How often to look whether the folder has become free."""

_SO_PEERGROUPS = 59  # since Linux 4.13; Python has no name for it
_CREDENTIALS = struct.Struct("iII")
_GROUPS_LIMIT_BYTES = 1024  # the most that Python's getsockopt takes: 256 groups

log = get_logger(__name__)

T = TypeVar("T")


class ControlSocket:
    """Serves `app` to local operators, and says where the API listens, as long as the runtime folder is ours."""

    def __init__(self, paths: Paths, app: ASGIApp, *, url: str, retry_seconds: float = RETRY_SECONDS) -> None:
        """`url` is the API's."""
        self._paths = paths
        self._app = app
        self._url = url
        self._retry_seconds = retry_seconds
        self._http: HttpServer | None = None
        self._stopping = asyncio.Event()

    async def run(self) -> None:
        """Serve until `stop`. That there is no control socket is told, and no reason to end."""
        folder = self._paths.runtime_dir
        with contextlib.ExitStack() as stack:
            if await self._insist(lambda: stack.enter_context(folder_lock(folder))) is None:
                return
            stack.enter_context(address_file(self._paths, self._url))
            listening = await self._insist(lambda: stack.enter_context(_listen(folder)))
            if listening is None:
                return
            log.info("control socket", url=listening.url)
            self._http = HttpServer(self._app, listening.sockets, protocol=_PeerProtocol)
            await self._http.run()

    async def stop(self) -> None:
        """Let the answers that are under way reach their askers, and return."""
        self._stopping.set()
        if self._http is not None:
            await self._http.stop()

    async def _insist(self, open: Callable[[], T]) -> T | None:
        """Try until it works; None when we stop before."""
        complaint = ""
        while not self._stopping.is_set():
            try:
                return open()
            except (GemmadError, OSError) as error:
                if str(error) != complaint:
                    log.warning("no control socket", reason=str(error))
                complaint = str(error)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._retry_seconds):
                    await self._stopping.wait()
        return None


def _listen(folder: Path) -> Listening:
    return listen_unix(folder / CONTROL_SOCKET, mode=SOCKET_MODE, name="control socket")


@contextlib.contextmanager
def folder_lock(folder: Path) -> Iterator[Path]:
    """Have the runtime folder for oneself; the lock's file.

    Raises AddressTakenError while somebody else has it, and OSError. What is locked is the file and not its name: one
    that a killed daemon left behind is free.
    """
    path = make_private(folder) / LOCK
    fd = _locked(path)
    try:
        yield path
    finally:
        with contextlib.suppress(OSError):
            if _is_there(fd, path):
                path.unlink()  # while it is locked: who gets the lock after us sees that the file is not there any more
        os.close(fd)


def _locked(path: Path) -> int:
    while True:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_there(fd, path):
                os.ftruncate(fd, 0)
                os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
                return fd
        except BlockingIOError:
            holder = os.pread(fd, 32, 0).decode(errors="replace").strip() or "unknown"
            os.close(fd)
            raise AddressTakenError(
                f"another daemon (pid {holder}) has {path.parent}; GEMMAD_RUNTIME_DIR gives this one its own folder"
            ) from None
        except OSError:
            os.close(fd)
            raise
        os.close(fd)


def _is_there(fd: int, path: Path) -> bool:
    """Whether the name still leads to this file."""
    try:
        return os.path.samestat(os.fstat(fd), path.lstat())
    except FileNotFoundError:
        return False


def peer_at(sock: socket.socket) -> Peer:
    """Who connected this Unix socket, with the groups that it had then. Raises OSError."""
    pid, uid, gid = _CREDENTIALS.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
    others = b""
    with contextlib.suppress(OSError):  # an old kernel, or more groups than fit: then only the first one counts
        others = sock.getsockopt(socket.SOL_SOCKET, _SO_PEERGROUPS, _GROUPS_LIMIT_BYTES)
    return Peer(pid, uid, frozenset({gid, *(group for (group,) in struct.iter_unpack("I", others))}))


def wardens() -> Wardens:
    """Who may change something in this daemon."""
    try:
        group: int | None = grp.getgrnam(OPERATORS).gr_gid
    except KeyError:
        group = None
    return Wardens(os.geteuid(), group, OPERATORS)


def levers(
    *,
    url: str,
    config_path: Path | None,
    config: Callable[[], Config],
    pool: Callable[[], Pool | None],
    reloader: Reloader,
) -> Levers:
    """What operators can pull in this daemon, over the control socket and in the dashboard."""

    async def reload(*, dry_run: bool) -> Reload:
        outcome = await (reloader.plan() if dry_run else reloader.reload(insist=True))
        return _told(outcome, now=time.time())

    async def config_diff() -> ConfigDiff:
        return told_diff(await reloader.plan(), trying=reloader.trying)

    return Levers(
        pool=pool,
        config=config,
        last_reload=lambda: told_reload(reloader.outcome, now=time.time()),
        reload=reload,
        config_diff=config_diff,
        config_path=config_path,
        url=url,
    )


def control_socket(paths: Paths, operator: Operator) -> ControlSocket:
    """The daemon's own, with its routes."""
    app = create_admin_app(AdminServices(operator=operator, wardens=wardens()))
    return ControlSocket(paths, app, url=operator.levers.url)


def told_reload(outcome: ReloadOutcome | None, *, now: float) -> Reload | None:
    """As operators are told it; `now` is in seconds since the epoch."""
    return None if outcome is None else _told(outcome, now=now)


def told_diff(plan: ReloadOutcome, *, trying: Sequence[Change]) -> ConfigDiff:
    """As operators are told what a reload would change."""
    differing = (*plan.applied, *plan.rolling, *plan.pending)
    settings = tuple(
        SettingDiff(
            change.key,
            told_value(change.key, change.old),
            told_value(change.key, change.new),
            "trying" if change in trying else change.when,
        )
        for change in differing
    )
    return ConfigDiff(settings, plan.errors)


def _told(outcome: ReloadOutcome, *, now: float) -> Reload:
    return Reload(
        ok=outcome.ok,
        seconds_ago=round(max(0.0, now - outcome.at), 3),
        errors=outcome.errors,
        applied=(*(change.key for change in outcome.applied), *outcome.also),
        rolling=tuple(change.key for change in outcome.rolling),
        pending=tuple(PendingSetting(change.key, change.when) for change in outcome.pending),
    )


class _PeerProtocol(HttpProtocol):
    """Notes who is at the other end."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A connection; what is noted here is in the scope's state of each of its requests."""
        super().connection_made(transport)
        try:
            peer = peer_at(transport.get_extra_info("socket"))
        except OSError:
            transport.abort()
            return
        self.app_state = {**self.app_state, "peer": peer}
