"""`gemmad dashboard`: a session of the running daemon's dashboard, in the browser of whoever may operate it."""

from __future__ import annotations

import getpass
import json
import os
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from urllib.parse import urlsplit

import typer

from gemmad.cli.control import ControlError, ask, strange_answer
from gemmad.cli.exits import EXIT_FAILED, fail
from gemmad.cli.health import WILDCARDS

if TYPE_CHECKING:
    from gemmad.api.dashboard.snapshot import Token

LINGER_SECONDS = 5.0
"""For the browser to read where it is to go."""

_DOOR = '<!doctype html><meta charset="utf-8"><title>gemmad</title><meta http-equiv="refresh" content="0; url={url}">\n'


def dashboard(
    no_browser: Annotated[bool, typer.Option("--no-browser", help="Print the address and open nothing.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print token and address as JSON, and open nothing.")] = False,
) -> None:
    """Open the dashboard in the browser, with the right to drain, recycle, reload and cancel for 12 hours.

    Without a display, or over ssh, the address is printed instead. Whoever has it has that right.
    Exit status: 0 done, 1 failed, 3 not running, 4 no access.
    """
    try:
        given = begin_session()
    except ControlError as error:
        fail(str(error), error.code)
    url = reachable_url(given.url, os.environ)
    if url is None:
        fail(f"the daemon listens at {given.url}, where no browser gets; a proxy before it does", EXIT_FAILED)
    address = f"{url}/#token={given.token}"
    if as_json:
        typer.echo(json.dumps({"token": given.token, "url": url, "address": address}, indent=2))
    elif not no_browser and has_display(os.environ) and open_browser(address):
        typer.echo(f"{url}/ is open in the browser; if not, `gemmad dashboard --no-browser` prints its address")
    else:
        typer.echo(address)
        if hint := tunnel_hint(given.url, os.environ, user=getpass.getuser()):
            typer.echo(f"\nThe daemon listens on this machine only. On yours, first:\n  {hint}", err=True)


def begin_session() -> Token:
    """A token, and where the daemon listens. Raises ControlError."""
    import msgspec

    from gemmad.api.dashboard.snapshot import Token

    try:
        return msgspec.json.decode(ask("POST", "/dashboard/token"), type=Token)
    except msgspec.MsgspecError as error:
        raise strange_answer(error) from None


def reachable_url(url: str, env: Mapping[str, str]) -> str | None:
    """What a browser can open: of an address that is all addresses the one that its user has come to, over ssh, else
    this machine's own. None where it is no address for browsers."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        return None
    if parts.hostname not in WILDCARDS:
        return url
    host = _server_address(env) or WILDCARDS[parts.hostname]
    return f"{parts.scheme}://{_bracketed(host)}:{parts.port}"


def has_display(env: Mapping[str, str]) -> bool:
    """Whether a browser would open where its user sits."""
    if env.get("SSH_CONNECTION") or env.get("SSH_TTY"):
        return False
    return bool(env.get("DISPLAY") or env.get("WAYLAND_DISPLAY"))


def open_browser(address: str, *, linger_seconds: float = LINGER_SECONDS) -> bool:
    """Open it; False where there is no browser."""
    import webbrowser

    with door(address) as file:
        if not webbrowser.open(file.as_uri()):
            return False
        time.sleep(linger_seconds)
    return True


@contextmanager
def door(address: str) -> Iterator[Path]:
    """A page for ourselves alone that leads there: every user of the machine can read a command's arguments."""
    with tempfile.NamedTemporaryFile("w", prefix="gemmad-", suffix=".html") as file:  # made with mode 600
        file.write(_DOOR.format(url=escape(address)))
        file.flush()
        yield Path(file.name)


def tunnel_hint(url: str, env: Mapping[str, str], *, user: str) -> str | None:
    """The command that brings what listens on loopback to where the user sits; None where it is not needed."""
    from gemmad.api.hosts import is_loopback

    parts, server = urlsplit(url), _server_address(env)
    if server is None or not parts.hostname or not is_loopback(parts.hostname):
        return None
    return f"ssh -L {parts.port}:{_bracketed(parts.hostname)}:{parts.port} {user}@{server}"


def _server_address(env: Mapping[str, str]) -> str | None:
    """This machine's, as whoever came over ssh has called it."""
    ends = env.get("SSH_CONNECTION", "").split()
    return ends[2] if len(ends) == 4 else None


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
