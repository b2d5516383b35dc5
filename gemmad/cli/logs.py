"""`gemmad logs`: the daemon's log, wherever it goes."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Annotated, NamedTuple, NoReturn

import typer

from gemmad.cli.control import ControlError, overview
from gemmad.cli.exits import EXIT_FAILED, EXIT_NO_ACCESS, EXIT_NOT_RUNNING, fail

UNIT = "gemmad.service"
_SYSTEMCTL_SECONDS = 5.0


class Unit(NamedTuple):
    """A unit of systemd, the system's or of whoever runs this."""

    name: str
    of_user: bool


def logs(
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with what comes, until Ctrl-C.")] = False,
    lines: Annotated[int, typer.Option("--lines", "-n", help="How many of the last ones.", min=0)] = 100,
    since: Annotated[
        str | None, typer.Option(help="From the journal, since when: as journalctl takes it.", metavar="TIME")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="From the journal, each line as JSON; a file is shown as it is.")
    ] = False,
) -> None:
    """Show the log of the running daemon, or of the service if it does not run.

    As a service it logs to the journal, which is shown by journalctl; else to where its standard error leads, and
    unless that is a file there is nothing to show and it is said where the log goes.

    Exit status: 0 shown, 1 the log goes where it cannot be read, 3 nothing runs and no service is installed, 4 no
    access.
    """
    pid = _running()
    unit = _installed() if pid is None else _unit_of(pid)
    if unit is not None:
        _become(journal_command(unit, lines=lines, follow=follow, since=since, as_json=as_json))
    if pid is None:
        fail("no daemon is running, and no service is installed", EXIT_NOT_RUNNING)
    target = _standard_error(pid)
    if target.is_file():
        _become(["tail", f"--lines={lines}", *(["--follow=name", "--retry"] if follow else []), "--", str(target)])
    fail(f"the daemon (pid {pid}) is no service, and logs to {target}", EXIT_FAILED)


def journal_command(unit: Unit, *, lines: int, follow: bool, since: str | None, as_json: bool) -> list[str]:
    """journalctl for it: where every line is of one program, the program's own words say enough."""
    command = ["journalctl", f"--{'user-' if unit.of_user else ''}unit={unit.name}", f"--lines={lines}"]
    command += ["--output=json" if as_json else "--output=cat"]
    command += ["--follow"] if follow else [] if sys.stdout.isatty() else ["--no-pager"]
    return command + ([f"--since={since}"] if since is not None else [])


def unit_in(cgroup: str) -> Unit | None:
    """The unit that a process is in, from what /proc/PID/cgroup has: the innermost service that is no user's manager.

    A terminal's scope is no service: who starts the daemon there has its log there.
    """
    for line in cgroup.splitlines():
        path = line.split(":", 2)[-1]
        names = [name for name in path.split("/") if name.endswith(".service")]
        inner = [name for name in names if not name.startswith("user@")]
        if inner and not path.rpartition("/")[2].endswith(".scope"):
            return Unit(inner[-1], of_user=len(inner) < len(names))
    return None


def _running() -> int | None:
    """The daemon's process. Leaves if there is one that cannot be asked."""
    try:
        return overview().pid
    except ControlError as error:
        if error.code == EXIT_NOT_RUNNING:
            return None
        fail(str(error), error.code)


def _unit_of(pid: int) -> Unit | None:
    """None for a daemon whose log is not the journal's, be it in somebody's service or not."""
    try:
        unit = unit_in(Path(f"/proc/{pid}/cgroup").read_text())
        with contextlib.suppress(PermissionError):  # it is somebody else's, and most likely as its unit has it
            if not os.readlink(f"/proc/{pid}/fd/2").startswith("socket:"):
                return None
    except OSError:  # it has gone
        return None
    return unit


def _installed() -> Unit | None:
    """The service that would run: the user's own first."""
    if shutil.which("systemctl") is None:
        return None
    for of_user in (True, False):
        command = ["systemctl", *(["--user"] if of_user else []), "cat", UNIT]
        try:
            found = subprocess.run(command, capture_output=True, check=False, timeout=_SYSTEMCTL_SECONDS)
        except (OSError, subprocess.TimeoutExpired):
            continue
        if found.returncode == 0:
            return Unit(UNIT, of_user)
    return None


def _standard_error(pid: int) -> Path:
    """Where it leads. Leaves with `EXIT_NO_ACCESS` if the kernel does not tell us."""
    try:
        return Path(os.readlink(f"/proc/{pid}/fd/2"))
    except PermissionError:
        fail(f"only root and who runs the daemon (pid {pid}) may see where it logs to", EXIT_NO_ACCESS)
    except OSError as error:
        fail(f"the daemon (pid {pid}) has gone: {error.strerror}", EXIT_NOT_RUNNING)


def _become(command: list[str]) -> NoReturn:
    """The program gets our signals and tells its own exit status."""
    sys.stdout.flush()
    try:
        os.execvp(command[0], command)  # noqa: S606
    except OSError as error:
        fail(f"{command[0]}: {error.strerror}", EXIT_FAILED)
