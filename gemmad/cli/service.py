"""`gemmad service`: gemmad as a service of systemd, the system's or a user's own."""

from __future__ import annotations

import getpass
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gemmad.cli.exits import EXIT_FAILED, EXIT_NO_ACCESS, EXIT_NOT_RUNNING, EXIT_USAGE, fail

if TYPE_CHECKING:
    from gemmad.cli.service_files import UnitFile

app = typer.Typer(help="gemmad as a service of systemd.", no_args_is_help=True)

User = Annotated[bool, typer.Option("--user", help="Your own service, instead of the system's.")]

EXIT_NO_UNIT = 4
"""As systemctl has it."""

_COMMAND_SECONDS = 300.0
_FACTS = ("Id", "LoadState", "ActiveState", "SubState", "StatusText", "MainPID", "NRestarts", "ActiveEnterTimestamp")


@app.command()
def install(
    user: User = False,
    now: Annotated[bool, typer.Option("--now", help="Start it, too; start it anew if it runs.")] = False,
    demo: Annotated[bool, typer.Option("--demo", help="Serve the tiny bundled model.")] = False,
    show: Annotated[bool, typer.Option("--print", help="Print the files, and change nothing.")] = False,
) -> None:
    """Write the unit files, and have systemd start gemmad at boot (a user's: at login).

    Exit status: 0 done, 1 systemd refuses, 2 this gemmad cannot be a service of the system, 4 no access.
    """
    files = _files(user=user, demo=demo)
    if show:
        typer.echo("\n".join(f"# {file.path}\n{file.text}" for file in files), nl=False)
        return
    if not user:
        _refuse_packaged()
        _require_root()
    _write(files)
    if not user:
        _run("systemd-sysusers", "gemmad.conf")
        _run("systemd-tmpfiles", "--create", "gemmad.conf")
    _systemctl(user, "daemon-reload")
    _systemctl(user, "enable", "gemmad.service")
    if now:
        _systemctl(user, "restart", "gemmad.service")
    _say_what_next(user=user, now=now)


@app.command()
def uninstall(user: User = False) -> None:
    """Stop the service and remove what `install` wrote. Settings, models and caches stay.

    Exit status: 0 done, 1 systemd refuses, 4 no access.
    """
    if not user:
        _require_root()
    paths = [file.path for file in _files(user=user, check=False)]
    if not any(path.exists() for path in paths):
        typer.echo("nothing is installed")
        return
    _systemctl(user, "disable", "--now", "gemmad.service", *(() if user else ("gemmad.socket",)))
    for path in paths:
        path.unlink(missing_ok=True)
    _systemctl(user, "daemon-reload")
    typer.echo("\n".join(f"removed {path}" for path in paths))


@app.command()
def status(
    user: User = False, as_json: Annotated[bool, typer.Option("--json", help="The main facts, as JSON.")] = False
) -> None:
    """Show what systemd says of the service. Exit status: 0 it is active, 3 it is not, 4 there is no such unit."""
    if as_json:
        shown = _call("systemctl", *_scope(user), "show", f"--property={','.join(_FACTS)}", "gemmad.service")
        facts = dict(line.split("=", 1) for line in shown.stdout.splitlines() if "=" in line)
        typer.echo(json.dumps(facts, indent=2))
        raise typer.Exit(status_code(facts))
    result = _call("systemctl", *_scope(user), "status", "--no-pager", "--lines=5", "gemmad.service")
    typer.echo(result.stdout + result.stderr, nl=False)
    raise typer.Exit(result.returncode)


def status_code(facts: Mapping[str, str]) -> int:
    """What `systemctl status` would leave with."""
    if facts.get("ActiveState") in ("active", "reloading"):
        return 0
    return EXIT_NO_UNIT if facts.get("LoadState") in (None, "not-found") else EXIT_NOT_RUNNING


def _files(*, user: bool, demo: bool = False, check: bool = True) -> tuple[UnitFile, ...]:
    from gemmad.cli.service_files import hidden_from_the_system, own_command, system_files, user_files

    command, options = own_command(), ("--demo",) if demo else ()
    if user:
        return user_files(command, options, os.environ)
    hidden = hidden_from_the_system([command[0], sys.executable, sys.prefix, sys.base_prefix, __file__])
    if check and hidden is not None:
        fail(
            f"the system's service cannot see {hidden}: install gemmad where every user can read it, for example with "
            "`pipx install --global gemmad` and a Python of the system, or take `gemmad service install --user`",
            EXIT_USAGE,
        )
    return system_files(command, options)


def _refuse_packaged() -> None:
    from gemmad.cli.service_files import PACKAGED

    if PACKAGED.exists():
        fail(f"{PACKAGED} is there from a package: `systemctl enable --now gemmad` is all it takes", EXIT_USAGE)


def _require_root() -> None:
    if os.geteuid() != 0:
        fail("the system's service is for root to change: use sudo, or --user for your own", EXIT_NO_ACCESS)


def _write(files: tuple[UnitFile, ...]) -> None:
    for path, text in files:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        except OSError as error:
            fail(f"{path}: {error.strerror}", EXIT_NO_ACCESS)
        typer.echo(f"wrote {path}")


def _say_what_next(*, user: bool, now: bool) -> None:
    option = " --user" if user else ""
    if not now:
        typer.echo(f"start it with: systemctl{option} start gemmad")
    typer.echo(f"its log: journalctl{option} -u gemmad")
    name = getpass.getuser() if user else ""
    if user and not Path("/var/lib/systemd/linger", name).exists():
        typer.echo(f"it ends when you log out; to have it run from boot on: loginctl enable-linger {name}")


def _scope(user: bool) -> tuple[str, ...]:
    return ("--user",) if user else ()


def _systemctl(user: bool, *arguments: str) -> None:
    _run("systemctl", *_scope(user), *arguments)


def _run(*command: str) -> None:
    """Leaves with 1 when it fails, and its words."""
    result = _call(*command)
    if result.returncode != 0:
        words = (result.stderr or result.stdout).strip() or f"exit status {result.returncode}"
        fail(f"{' '.join(command)}: {words}", EXIT_FAILED)


def _call(*command: str) -> subprocess.CompletedProcess[str]:
    if shutil.which(command[0]) is None:
        fail(f"{command[0]} is not here: this machine does not run systemd", EXIT_FAILED)
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=_COMMAND_SECONDS)
    except subprocess.TimeoutExpired:
        fail(f"{' '.join(command)}: no answer for {_COMMAND_SECONDS:g} seconds", EXIT_FAILED)
