"""What `gemmad service` writes: the unit files that come with gemmad, with the command that runs it in them."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import gemmad

SERVICE = "gemmad.service"
PACKAGED = Path("/usr/lib/systemd/system") / SERVICE
"""Where a distribution's package has its own."""
HIDDEN = tuple(map(Path, ("/home", "/root", "/run/user", "/tmp", "/var/tmp")))  # noqa: S108 - to tell them, not to use
"""The system's unit sees nothing of these (ProtectHome=, PrivateTmp=)."""
_COMMANDS = ("/usr/bin/gemmad", "%h/.local/bin/gemmad")
"""As the shipped units name it."""


class UnitFile(NamedTuple):
    """One file to write."""

    path: Path
    text: str


def shipped(name: str) -> str:
    """The text of a file of systemd/: part of the installed package, and beside it in a source tree."""
    package = Path(gemmad.__file__).parent
    for folder in (package / "systemd", package.parent / "systemd"):
        if (folder / name).is_file():
            return (folder / name).read_text()
    raise FileNotFoundError(f"{name} is not part of this installation of gemmad")


def system_files(command: Sequence[str], options: Sequence[str] = ()) -> tuple[UnitFile, ...]:
    """Units of the system, the user that they run as, and the folders."""
    units = Path("/etc/systemd/system")
    return (
        UnitFile(units / SERVICE, with_command(shipped(SERVICE), command, options)),
        UnitFile(units / "gemmad.socket", shipped("gemmad.socket")),
        UnitFile(units / "gemmad-devices.service", shipped("gemmad-devices.service")),
        UnitFile(Path("/etc/sysusers.d/gemmad.conf"), shipped("gemmad.sysusers")),
        UnitFile(Path("/etc/tmpfiles.d/gemmad.conf"), shipped("gemmad.tmpfiles")),
    )


def user_files(command: Sequence[str], options: Sequence[str], env: Mapping[str, str]) -> tuple[UnitFile, ...]:
    """The unit of this user."""
    home = Path(env.get("XDG_CONFIG_HOME") or Path(env.get("HOME") or Path.home()) / ".config")
    text = with_command(shipped("gemmad-user.service"), command, options)
    return (UnitFile(home / "systemd/user" / SERVICE, text),)


def with_command(unit: str, command: Sequence[str], options: Sequence[str] = ()) -> str:
    """A shipped unit that runs `command`; `options` are for `serve`."""
    words = " ".join(map(quoted, command))
    for named in _COMMANDS:
        unit = unit.replace(f"={named} ", f"={words} ")
    return unit.replace(f"ExecStart={words} serve\n", " ".join([f"ExecStart={words} serve", *options]) + "\n")


def quoted(word: str) -> str:
    """A word of a command line as systemd reads it (systemd.service(5))."""
    escaped = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return f'"{escaped}"' if set(escaped) & set(" \t'\"\\;") else escaped


def own_command(argv0: str | None = None) -> tuple[str, ...]:
    """What runs this gemmad, whoever's search path is in force."""
    script = Path(argv0 or sys.argv[0]).absolute()
    if script.name == "gemmad" and os.access(script, os.X_OK):
        return (str(script),)
    return (sys.executable, "-m", "gemmad")


def hidden_from_the_system(paths: Iterable[str | Path]) -> Path | None:
    """The first of these that the system's unit could not see, followed to where it leads."""
    for path in paths:
        for place in (Path(path).absolute(), Path(path).resolve()):
            if any(place.is_relative_to(folder) for folder in HIDDEN):
                return place
    return None
