"""The command's end of the control socket: finds the running daemon, asks it, and knows what a failure exits with."""

from __future__ import annotations

import http.client
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from gemmad.cli.exits import EXIT_FAILED, EXIT_NO_ACCESS, EXIT_NOT_RUNNING, EXIT_USAGE
from gemmad.cli.health import UnixConnection

if TYPE_CHECKING:
    from gemmad.api.overview import ConfigDiff, Overview, WorkerOverview

TIMEOUT_SECONDS = 5.0
_ANSWER_LIMIT_BYTES = 16 << 20
_EXITS = {403: EXIT_NO_ACCESS, 404: EXIT_USAGE}


class ControlError(Exception):
    """The daemon is not there, does not answer, or refuses; `code` is what to exit with."""

    def __init__(self, words: str, code: int) -> None:
        super().__init__(words)
        self.code = code


def sockets(env: Mapping[str, str], *, uid: int | None = None) -> tuple[Path, ...]:
    """Where a daemon's control socket may be: in the runtime folder that is named, else the user's or the system's."""
    from gemmad.config.paths import CONTROL_SOCKET, find_paths

    folders = (find_paths(env, uid=uid).runtime_dir, find_paths(env, uid=0).runtime_dir)
    return tuple(dict.fromkeys(folder / CONTROL_SOCKET for folder in folders))


def ask(method: str, path: str, *, timeout_seconds: float = TIMEOUT_SECONDS) -> bytes:
    """The body of the daemon's answer. Raises ControlError."""
    connection = _connect(sockets(os.environ), timeout_seconds)
    try:
        connection.request(method, path)
        response = connection.getresponse()
        body = response.read(_ANSWER_LIMIT_BYTES)
    except (OSError, http.client.HTTPException) as error:
        raise ControlError(f"the daemon does not answer: {error or type(error).__name__}", EXIT_FAILED) from None
    finally:
        connection.close()
    if response.status != http.client.OK:
        raise ControlError(_reason(response.status, body), _EXITS.get(response.status, EXIT_FAILED))
    return body


def overview() -> Overview:
    """The daemon as of now. Raises ControlError."""
    return read_overview(ask("GET", "/status"))


def read_overview(body: bytes) -> Overview:
    """What `GET /status` answered. Raises ControlError for an answer of another version that has not all that is in
    ours."""
    import msgspec

    from gemmad.api.overview import Overview

    try:
        return msgspec.json.decode(body, type=Overview)
    except msgspec.MsgspecError as error:
        raise strange_answer(error) from None


def config_diff() -> tuple[ConfigDiff, str]:
    """How the daemon's settings differ from its files, and the same as JSON. Raises ControlError."""
    import msgspec

    from gemmad.api.overview import ConfigDiff

    body = ask("GET", "/config/diff")
    try:
        return msgspec.json.decode(body, type=ConfigDiff), body.decode()
    except msgspec.MsgspecError as error:
        raise strange_answer(error) from None


def ask_workers(verb: str, worker: str) -> tuple[WorkerOverview, ...]:
    """Ask a worker, or `all`, to drain, resume or recycle; those who were asked. Raises ControlError."""
    import msgspec

    from gemmad.api.overview import Asked

    body = ask("POST", f"/workers/{quote(worker, safe='')}/{verb}")
    try:
        return msgspec.json.decode(body, type=Asked).workers
    except msgspec.MsgspecError as error:
        raise strange_answer(error) from None


def _connect(paths: tuple[Path, ...], timeout_seconds: float) -> UnixConnection:
    closed = []
    for path in paths:
        connection = UnixConnection(path, timeout_seconds)
        try:
            connection.connect()
        except PermissionError:
            closed.append(path)
        except OSError:
            pass  # nobody is there
        else:
            return connection
        connection.close()
    if closed:
        raise ControlError(f"no access to {closed[0]}", EXIT_NO_ACCESS)
    raise ControlError(f"no daemon is running; looked for {' and '.join(map(str, paths))}", EXIT_NOT_RUNNING)


def _reason(status: int, body: bytes) -> str:
    try:
        return str(json.loads(body)["error"]["message"])
    except (ValueError, LookupError, TypeError):
        return f"the daemon answers HTTP {status}"


def strange_answer(error: Exception) -> ControlError:
    """What to raise for an answer that cannot be read."""
    return ControlError(f"the daemon's answer is not this version's ({error}); `gemmad version` tells", EXIT_FAILED)
