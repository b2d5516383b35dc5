"""What systemd says of the unit, the system's and the user's own."""

from __future__ import annotations

import getpass
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from gemmad.doctor.ask import Reply, ask
from gemmad.doctor.facts import ServiceFacts, UnitFacts

UNIT = "gemmad.service"
RUNS = Path("/run/systemd/system")
"""sd_booted(3)"""
LINGER = Path("/var/lib/systemd/linger")
PROPERTIES = (
    *("LoadState", "UnitFileState", "ActiveState", "SubState", "Result", "NRestarts", "StatusText", "MainPID"),
    *("ExecMainCode", "ExecMainStatus", "NeedDaemonReload", "LimitNOFILE", "MemoryMax"),
)


def read_service(
    *, seconds: float, booted: Path = RUNS, call: Callable[..., Reply] = ask, linger: Path = LINGER
) -> ServiceFacts:
    """Units that are installed. `seconds` are for each of the two managers."""
    if not booted.is_dir() or shutil.which("systemctl") is None:
        return ServiceFacts(runs=False)
    units, problems = [], []
    for of_user in (False, True):
        if of_user and not os.environ.get("XDG_RUNTIME_DIR"):
            continue  # no login session, and so no manager to ask
        scope = ("--user",) if of_user else ()
        reply = call(("systemctl", *scope, "show", f"--property={','.join(PROPERTIES)}", UNIT), seconds=seconds)
        if reply.problem is not None:
            problems.append(f"systemctl {' '.join((*scope, 'show'))}: {reply.problem}")
            continue
        properties = parse_properties(reply.output.decode(errors="replace"))
        if properties.get("LoadState", "not-found") != "not-found":
            lingers = (linger / getpass.getuser()).exists() if of_user else None
            units.append(UnitFacts(of_user=of_user, properties=properties, lingers=lingers))
    return ServiceFacts(runs=True, units=tuple(units), problem="; ".join(problems) or None)


def parse_properties(output: str) -> dict[str, str]:
    """`Name=value`, a line each."""
    return dict(line.split("=", 1) for line in output.splitlines() if "=" in line)
