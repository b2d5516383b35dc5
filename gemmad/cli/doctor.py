"""`gemmad doctor`: what keeps this installation from working, and what to do about it."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gemmad.cli.control import ControlError, ask, read_overview, sockets
from gemmad.cli.exits import EXIT_FAILED, EXIT_NO_ACCESS, EXIT_NOT_RUNNING

if TYPE_CHECKING:
    from gemmad.doctor.facts import DaemonFacts
    from gemmad.doctor.finding import Finding

ASK_SECONDS = 2.0
_WIDEST = 100


def doctor(
    config: Annotated[Path | None, typer.Option(help="Configuration file.", metavar="FILE")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """Look at driver, CUDA, torch, GPUs, memory, disks, limits, settings, port, service and model: a line for each.

    Below what is not well stands what to do. It changes nothing, takes ten seconds at most, and shows no secrets, so
    that its output can be shared. Where a daemon runs, what that one uses is looked at.

    Exit status: 0 nothing fails, 1 something does.
    """
    from gemmad.doctor.examine import examine
    from gemmad.doctor.gather import gather
    from gemmad.doctor.report import has_failed, summary

    facts = gather(ask_daemon(), config=config, env=os.environ, uid=os.geteuid())
    findings = examine(facts, environ=os.environ, flash=find_spec("flash_attn") is not None)
    if as_json:
        import msgspec

        told = {"summary": summary(findings), "findings": [msgspec.to_builtins(finding) for finding in findings]}
        typer.echo(json.dumps(told, indent=2))
    else:
        _print(findings)
    raise typer.Exit(EXIT_FAILED if has_failed(findings) else 0)


def ask_daemon() -> DaemonFacts:
    """What the control socket tells, or why it does not."""
    from gemmad.doctor.facts import DaemonFacts
    from gemmad.doctor.read_host import limits_of

    looked = sockets(os.environ)
    path = next((each for each in looked if _may_be(each)), looked[0])
    try:
        overview = read_overview(ask("GET", "/status", timeout_seconds=ASK_SECONDS))
    except ControlError as error:
        return DaemonFacts(
            socket=str(path),
            closed=error.code == EXIT_NO_ACCESS,
            silent=str(error) if error.code not in (EXIT_NO_ACCESS, EXIT_NOT_RUNNING) else None,
            left=error.code == EXIT_NOT_RUNNING and path.exists(),
        )
    uid = _uid_of(overview.pid)
    return DaemonFacts(
        socket=str(path),
        overview=overview,
        is_warden=_is_warden(uid),
        open_files=limits_of(overview.pid),
        uid=uid,
    )


def _print(findings: Sequence[Finding]) -> None:
    from gemmad.cli.top_screen import painted, size_of
    from gemmad.doctor.report import WIDTH, rendered

    terminal = sys.stdout.isatty()
    width = min(_WIDEST, size_of(sys.stdout, os.environ)[0]) if terminal else WIDTH
    lines = rendered(findings, width=width)
    for line in painted(lines, width=10_000, env=os.environ, terminal=terminal):
        typer.echo(line.rstrip())


def _may_be(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # it is in somebody else's folder
        return True


def _uid_of(pid: int) -> int | None:
    try:
        return Path(f"/proc/{pid}").stat().st_uid
    except OSError:
        return None


def _is_warden(uid: int | None) -> bool:
    """Whether the daemon would heed us; it has the last word."""
    from gemmad.api.peer import Peer
    from gemmad.daemon.control import wardens

    told = wardens()
    us = Peer(os.getpid(), os.geteuid(), frozenset({os.getegid(), *os.getgroups()}))
    return us.uid in (0, uid) or (told.group is not None and told.group in us.groups)
