"""Where gemmad keeps things: what it is told, else systemd's folders, else root's usual ones, else the user's."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from msgspec import Struct
from platformdirs import PlatformDirs

SYSTEM_CONFIG_DIR = Path("/etc/gemmad")  # platformdirs' site folder would be /etc/xdg/gemmad
CONTROL_SOCKET = "control.sock"
"""In the runtime folder."""
_SYSTEM = {
    "config": SYSTEM_CONFIG_DIR,
    "state": Path("/var/lib/gemmad"),
    "cache": Path("/var/cache/gemmad"),
    "runtime": Path("/run/gemmad"),
}
_SYSTEMD = {
    "config": "CONFIGURATION_DIRECTORY",
    "state": "STATE_DIRECTORY",
    "cache": "CACHE_DIRECTORY",
    "runtime": "RUNTIME_DIRECTORY",
}


class Paths(Struct, frozen=True):
    """Four folders, none of which need exist: whoever writes into one makes it with `make_private`."""

    config_dir: Path
    state_dir: Path
    cache_dir: Path
    runtime_dir: Path
    config_is_chosen: bool
    """Somebody named the config folder, so no other is looked into."""


def find_paths(env: Mapping[str, str], *, uid: int | None = None) -> Paths:
    """Folders for this environment and user (`uid` None: whoever runs this)."""
    user = os.geteuid() if uid is None else uid
    return Paths(
        config_dir=_folder("config", env, user),
        state_dir=_folder("state", env, user),
        cache_dir=_folder("cache", env, user),
        runtime_dir=_folder("runtime", env, user),
        config_is_chosen=_chosen("config", env) is not None,
    )


def make_private(folder: Path) -> Path:
    """Make `folder` for its owner only, and what is missing above it; one that exists stays as it is."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder


def _folder(kind: str, env: Mapping[str, str], uid: int) -> Path:
    chosen = _chosen(kind, env)
    if chosen is not None:
        return chosen
    if uid == 0:
        return _SYSTEM[kind]
    return _user_folder(kind, env)


def _chosen(kind: str, env: Mapping[str, str]) -> Path | None:
    own = env.get(f"GEMMAD_{kind.upper()}_DIR", "")
    if own:
        return Path(own).absolute()
    first = env.get(_SYSTEMD[kind], "").split(":")[0]
    # systemd before 254 puts a user unit's StateDirectory= into ~/.config, onto the configuration itself.
    misplaced = kind == "state" and first == env.get(_SYSTEMD["config"], "").split(":")[0]
    return Path(first) if first and not misplaced else None


def _user_folder(kind: str, env: Mapping[str, str]) -> Path:
    directories = PlatformDirs("gemmad", appauthor=False)
    if kind != "runtime":
        return Path(getattr(directories, f"user_{kind}_dir"))
    session = env.get("XDG_RUNTIME_DIR", "")
    if os.path.isabs(session):
        return Path(session) / "gemmad"
    return Path(directories.user_state_dir) / "run"  # no login session; never a guessable name in /tmp
