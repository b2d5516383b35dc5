"""`gemmad pull`, `models` and `rm`, against a hub and a daemon that the test plays."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import gemmad.demo
from tests.fakes.hub import fake_hub, files_of
from tests.unit.cli.conftest import Command, Said
from tests.unit.cli.operated import overview, played

CHECKPOINT = Path(gemmad.demo.__file__).parent / "checkpoint"
NAME = "google/gemma-3-demo"


def pull(folder: Path, *arguments: str, hub: str = "http://127.0.0.1:9", **env: str) -> Said:
    """`gemmad pull` in a process of its own: huggingface_hub reads its variables once."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("GEMMAD_", "HF_"))}
    told = {
        "HF_ENDPOINT": hub,
        "HF_HOME": str(folder / "hf"),
        "GEMMAD_STATE_DIR": str(folder),
        "GEMMAD_RUNTIME_DIR": str(folder / "run"),
        **env,
    }
    command = [sys.executable, "-m", "gemmad", "pull", *arguments]
    done = subprocess.run(command, env=clean | told, capture_output=True, text=True, check=False, timeout=60)
    assert "Traceback" not in done.stderr
    return Said(done.returncode, done.stdout, done.stderr)


@pytest.fixture
def state(config_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The state folder."""
    monkeypatch.setenv("GEMMAD_STATE_DIR", str(config_dir))
    return config_dir


def put(state: Path, name: str) -> Path:
    """A model as a pull leaves it, but for its manifest."""
    folder = state / "models" / name
    folder.mkdir(parents=True)
    (folder / "config.json").write_bytes(b"{}" * 500)
    return folder


def test_pulling_and_pulling_again(state: Path, gemmad: Command) -> None:
    """A pull says where the model is, in one line and without a bar where nobody watches; the second has nothing to
    do, and offline it is enough that it is here."""
    with fake_hub(NAME, files_of(CHECKPOINT)) as hub:
        first = pull(state, NAME, hub=hub.url)
        again = pull(state, NAME, hub=hub.url)
    folder = state / "models/google--gemma-3-demo"
    assert (first.exit_code, first.stderr) == (0, "")
    assert first.stdout == f"{NAME}: pulled 4.50 MiB; {folder}\n"
    assert again.stdout == f"{NAME}: was here already; {folder}\n"
    for offline in (pull(state, NAME, "--offline"), pull(state, NAME, HF_HUB_OFFLINE="1")):
        assert (offline.exit_code, offline.stdout) == (0, f"{NAME}: is here at commit {'a' * 40}; {folder}\n")
    (fact,) = json.loads(gemmad("models", "--json").stdout)
    assert (fact["name"], fact["complete"], fact["commit"], fact["in_use"]) == (NAME, True, "a" * 40, False)


def test_what_a_pull_fails_with(state: Path) -> None:
    """Each kind of failure has the exit status that the other verbs give it, and one plain sentence."""
    with fake_hub(NAME, files_of(CHECKPOINT)) as hub:
        hub.gate = "hf_secret"
        gated = pull(state, NAME, hub=hub.url)
        unknown = pull(state, "google/nothing", hub=hub.url)
        refused = pull(state, NAME, hub=hub.url, HF_TOKEN="hf_wrong")
        assert pull(state, NAME, hub=hub.url, HF_TOKEN="hf_secret").exit_code == 0
    assert gated.exit_code == refused.exit_code == 4
    assert "is gated" in gated.stderr
    assert "hf_wrong" not in refused.stderr + refused.stdout
    assert unknown.exit_code == 2
    unreachable = pull(state, "google/other")
    assert unreachable.exit_code == 75
    assert unreachable.stderr.startswith("gemmad: cannot reach 127.0.0.1:9: ")
    offline = pull(state, "google/other", "--offline")
    assert offline.exit_code == 1
    assert f"here are {NAME}" in offline.stderr
    assert pull(state, "no name").exit_code == 2


def test_listing(state: Path, gemmad: Command) -> None:
    """The list names what is there, what of it is incomplete, and what the running daemon serves."""
    assert "gemmad pull" in gemmad("models").stdout
    served = put(state, "google--gemma-3-4b-it")
    put(state, "google--gemma-3-1b-it@v2")
    put(state, ".pulling/google--gemma-3-27b-it")
    put(state, "mine")
    with played(state / "run") as socket:
        socket.overviews = [overview(checkpoint=str(served))]
        lines = gemmad("models").stdout.splitlines()
    assert lines[0].split() == ["MODEL", "SIZE", "COMMIT", "PULLED"]
    assert [line.split()[0] for line in lines[1:]] == [
        "google/gemma-3-1b-it@v2",
        "google/gemma-3-4b-it",
        str(state / "models/mine"),
        "google/gemma-3-27b-it",
    ]
    assert lines[2].endswith("in use")
    assert lines[4].endswith("incomplete; `gemmad pull` goes on")


def test_removing(state: Path, gemmad: Command) -> None:
    """A model is removed by its name; one that is not there is told with those that are."""
    folder = put(state, "google--gemma-3-4b-it")
    put(state, ".pulling/google--gemma-3-4b-it")
    said = gemmad("rm", "google/gemma-3-1b-it")
    assert (said.exit_code, "there are google/gemma-3-4b-it" in said.stderr) == (2, True)
    said = gemmad("rm", "google/gemma-3-4b-it")
    assert (said.exit_code, said.stdout) == (0, "removed google/gemma-3-4b-it, 1.95 KiB\n")
    assert not folder.exists()
    assert gemmad("models", "--json").stdout == "[]\n"
    assert gemmad("rm", "../etc").exit_code == 2


def test_what_is_served_is_not_removed(state: Path, gemmad: Command) -> None:
    """The model of the running daemon stays; so does any, if the daemon cannot be asked and nobody insists."""
    folder = put(state, "google--gemma-3-4b-it")
    other = put(state, "google--gemma-3-1b-it")
    with played(state / "run") as socket:
        socket.overviews = [overview(checkpoint=str(folder))]
        said = gemmad("rm", "google/gemma-3-4b-it", "--force")
        assert (said.exit_code, "the running daemon serves google/gemma-3-4b-it" in said.stderr) == (1, True)
        assert gemmad("rm", "google/gemma-3-1b-it").exit_code == 0
        assert folder.exists()
        assert not other.exists()
        socket.body = b'{"version": "9"}'
        said = gemmad("rm", "google/gemma-3-4b-it")
        assert (said.exit_code, "cannot ask the running daemon" in said.stderr) == (1, True)
        assert gemmad("rm", "google/gemma-3-4b-it", "--force").exit_code == 0
