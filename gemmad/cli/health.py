"""`gemmad health`: the daemon's own word on whether it can answer requests."""

from __future__ import annotations

import http.client
import json
import os
import socket
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

import typer

from gemmad.cli.exits import EXIT_USAGE, fail, refuse_config

EXIT_READY = 0
EXIT_NOT_READY = 1
EXIT_NO_ANSWER = 2

_ANSWER_LIMIT_BYTES = 1 << 20
WILDCARDS = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - addresses to ask at, not to listen on


def health(
    url: Annotated[str | None, typer.Option(help="Where the daemon listens, if it is not found by itself.")] = None,
    config: Annotated[Path | None, typer.Option(help="Configuration file.", metavar="FILE")] = None,
    timeout: Annotated[float, typer.Option(help="Seconds to wait for an answer.", min=0.1)] = 5.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print the daemon's whole answer.")] = False,
) -> None:
    """Ask the daemon how it is. Exit status: 0 ready, 1 not ready (loading, draining), 2 no answer."""
    where, connection = find_daemon(url, config, timeout_seconds=timeout)
    try:
        status, answer = ask_health(connection)
    except (OSError, http.client.HTTPException, ValueError) as error:
        fail(f"no answer at {where}: {error or type(error).__name__}", EXIT_NO_ANSWER)
    finally:
        connection.close()
    typer.echo(json.dumps(answer, indent=2) if as_json else _words(answer, status))
    raise typer.Exit(EXIT_READY if status == http.client.OK else EXIT_NOT_READY)


def _words(answer: dict[str, Any], status: int) -> str:
    words = str(answer.get("status", f"HTTP {status}"))
    return f"{words}: {answer['remedy']}" if "remedy" in answer else words


def ask_health(connection: http.client.HTTPConnection) -> tuple[int, dict[str, Any]]:
    """Status and body. Raises OSError, HTTPException, and ValueError when it is no daemon of ours that answers."""
    connection.request("GET", "/health")
    response = connection.getresponse()
    answer = json.loads(response.read(_ANSWER_LIMIT_BYTES))
    if not isinstance(answer, dict) or response.status not in (http.client.OK, http.client.SERVICE_UNAVAILABLE):
        raise ValueError(f"HTTP {response.status}, which is not what gemmad says")
    return response.status, answer


def find_daemon(
    url: str | None, config: Path | None, *, timeout_seconds: float
) -> tuple[str, http.client.HTTPConnection]:
    """Whom to ask: the given URL, else the running daemon's own note, else where the configuration lets it listen.

    Nothing is connected yet. Leaves with `EXIT_USAGE` for what is no URL and 78 for a configuration with errors.
    """
    if url is not None:
        return url, _to_url(url, timeout_seconds)
    noted = _noted_address() if config is None else None
    if noted is not None:
        return noted, _to_url(noted, timeout_seconds)
    from gemmad.config.load import load_config
    from gemmad.errors import ConfigError

    try:
        server = load_config(config, env=os.environ, overrides={}).config.server
    except ConfigError as error:
        refuse_config(str(error))
    shown = f"[{server.host}]" if ":" in server.host else server.host
    address = f"unix:{server.uds}" if server.uds is not None else f"http://{shown}:{server.port}"
    return address, _to_url(address, timeout_seconds)


def _noted_address() -> str | None:
    """What a running daemon, the user's or else the system's, says about where it listens: flags may have decided."""
    from gemmad.config.paths import find_paths

    for uid in (None, 0):
        try:
            noted = (find_paths(os.environ, uid=uid).runtime_dir / "address").read_text().strip()
        except (OSError, UnicodeDecodeError):
            continue
        if noted:
            return noted
    return None


def _to_url(url: str, timeout: float) -> http.client.HTTPConnection:
    """`http://`, `https://` or `unix:/path`."""
    if url.startswith("unix:"):
        return UnixConnection(Path(url.removeprefix("unix:")), timeout)
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        fail(f"{url} is not a URL: {error}", EXIT_USAGE)
    if parts.scheme not in ("http", "https") or not host:
        fail(f"{url} is no URL of a daemon: it begins with http://, https:// or unix:/", EXIT_USAGE)
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    return kind(WILDCARDS.get(host, host), port, timeout=timeout)


class UnixConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: Path, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))
