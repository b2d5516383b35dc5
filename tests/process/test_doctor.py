"""`gemmad doctor` on this machine, with and without a daemon."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from tests.process.daemon import PATIENCE_SECONDS, ROOT, DaemonProcess

LIMIT_SECONDS = 10.0
SLACK_SECONDS = 20.0
"""For a machine that does other things meanwhile."""


def examined(folder: Path, *arguments: str, **env: str) -> tuple[int, dict[str, Any]]:
    """Its exit status, and what it found by name."""
    folders = {f"GEMMAD_{name}_DIR": str(folder / name.lower()) for name in ("CONFIG", "STATE", "CACHE", "RUNTIME")}
    clean = {name: value for name, value in os.environ.items() if not name.startswith("GEMMAD_")}
    command = [sys.executable, "-m", "gemmad", "doctor", "--json", *arguments]
    began = time.monotonic()
    done = subprocess.run(
        command, cwd=ROOT, env=clean | folders | env, capture_output=True, text=True, check=False,
        timeout=PATIENCE_SECONDS,
    )  # fmt: skip
    assert time.monotonic() - began < LIMIT_SECONDS + SLACK_SECONDS
    assert done.stderr == ""
    return done.returncode, {each["name"]: each for each in json.loads(done.stdout)["findings"]}


def test_a_daemon_that_is_well(demo_daemon: DaemonProcess) -> None:
    """What a running daemon serves is looked at, though no file names it, and nothing of it fails."""
    status, found = examined(demo_daemon.folder)
    failed = [each for each in found.values() if each["level"] == "fail"]
    assert (status, failed) == (0, [])
    assert found["state"]["words"].startswith(f"ready, pid {demo_daemon.process.pid}")
    assert found["cpu0"]["level"] == "ok"
    assert found["files"]["words"].startswith(str(ROOT / "gemmad/demo/checkpoint"))
    assert found["plan"]["level"] == "ok"
    assert found["torch"]["level"] in ("ok", "warn")  # a machine that is busy may not import it in time


def test_a_machine_with_faults(tmp_path: Path) -> None:
    """Without a model, with mistakes in the file and a port that is taken, each is told, and the status is 1."""
    (tmp_path / "config").mkdir()
    file = tmp_path / "config" / "gemmad.toml"
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        status, found = examined(tmp_path, GEMMAD_SERVER__PORT=str(port))
        assert status == 1
        assert f"127.0.0.1:{port} is held by" in found["port"]["words"]
        assert f"(pid {os.getpid()})" in found["port"]["words"]
    assert found["files"]["words"] == "no model is set"
    assert found["control"]["level"] == "skip"
    file.write_text("[server]\nprot = 1\n[engine]\ndevice = 'tpu'\n")
    status, found = examined(tmp_path)
    assert status == 1
    assert found["config"]["details"][0].startswith(f"{file}:2: server.prot: unknown key")
    assert len(found["config"]["details"]) == 2
    assert not (tmp_path / "state").exists()
