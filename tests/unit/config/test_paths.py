from __future__ import annotations

import stat
from pathlib import Path

import pytest

from gemmad.config.paths import find_paths, make_private


def test_named_folders_win() -> None:
    """GEMMAD_*_DIR is taken before systemd's variables."""
    env = {
        "GEMMAD_CONFIG_DIR": "/a/config",
        "GEMMAD_STATE_DIR": "/a/state",
        "GEMMAD_CACHE_DIR": "/a/cache",
        "GEMMAD_RUNTIME_DIR": "/a/run",
        "STATE_DIRECTORY": "/b",
    }
    paths = find_paths(env, uid=0)
    assert [paths.config_dir, paths.state_dir, paths.cache_dir, paths.runtime_dir] == [
        Path("/a/config"),
        Path("/a/state"),
        Path("/a/cache"),
        Path("/a/run"),
    ]
    assert paths.config_is_chosen


def test_systemd_folders() -> None:
    """systemd's *_DIRECTORY are taken, the first where there are several."""
    env = {
        "CONFIGURATION_DIRECTORY": "/etc/gemmad",
        "STATE_DIRECTORY": "/var/lib/gemmad:/var/lib/other",
        "RUNTIME_DIRECTORY": "/run/gemmad",
    }
    paths = find_paths(env, uid=1000)
    assert (paths.config_dir, paths.state_dir, paths.runtime_dir) == (
        Path("/etc/gemmad"),
        Path("/var/lib/gemmad"),
        Path("/run/gemmad"),
    )
    assert paths.config_is_chosen


def test_a_state_folder_on_top_of_the_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    """An old user manager names the config folder as state folder; that one is not taken."""
    monkeypatch.setenv("XDG_STATE_HOME", "/u/state")
    env = {"CONFIGURATION_DIRECTORY": "/u/config/gemmad", "STATE_DIRECTORY": "/u/config/gemmad"}
    assert find_paths(env, uid=1000).state_dir == Path("/u/state/gemmad")


def test_root_has_the_usual_system_folders() -> None:
    """Root without systemd uses /etc, /var/lib, /var/cache and /run."""
    paths = find_paths({}, uid=0)
    assert [paths.config_dir, paths.state_dir, paths.cache_dir, paths.runtime_dir] == [
        Path("/etc/gemmad"),
        Path("/var/lib/gemmad"),
        Path("/var/cache/gemmad"),
        Path("/run/gemmad"),
    ]
    assert not paths.config_is_chosen


def test_users_have_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """A user's folders are the platform's, and the runtime folder that of the session."""
    for kind in ("CONFIG", "STATE", "CACHE"):
        monkeypatch.setenv(f"XDG_{kind}_HOME", f"/u/{kind.lower()}")
    paths = find_paths({"XDG_RUNTIME_DIR": "/run/user/7"}, uid=7)
    assert [paths.config_dir, paths.state_dir, paths.cache_dir, paths.runtime_dir] == [
        Path("/u/config/gemmad"),
        Path("/u/state/gemmad"),
        Path("/u/cache/gemmad"),
        Path("/run/user/7/gemmad"),
    ]


def test_without_a_session_nothing_lies_in_tmp(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a session's runtime folder the state folder has the sockets: names in /tmp can be guessed and taken."""
    monkeypatch.setenv("XDG_STATE_HOME", "/u/state")
    assert find_paths({}, uid=7).runtime_dir == Path("/u/state/gemmad/run")
    assert find_paths({"XDG_RUNTIME_DIR": "relative"}, uid=7).runtime_dir == Path("/u/state/gemmad/run")


def test_folders_are_made_for_their_owner_only(tmp_path: Path) -> None:
    """A folder is made on demand, closed to others, with all above it; an existing one is left as it is."""
    folder = make_private(tmp_path / "a" / "b")
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    folder.chmod(0o755)
    assert stat.S_IMODE(make_private(folder).stat().st_mode) == 0o755
