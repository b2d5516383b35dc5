"""The memory history of a real daemon, through its restart and without it."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from gemmad.cli.health import UnixConnection
from tests.process.daemon import MODEL, PATIENCE_SECONDS, ROOT, DaemonProcess

SAMPLES = 3


def start(folder: Path) -> DaemonProcess:
    """The real daemon on the bundled model, with a sample each second."""
    command = [sys.executable, "-m", "gemmad", "serve", "--demo", "--port", "0"]
    env = {"GEMMAD_ENGINE__DEVICE": "cpu", "GEMMAD_WORKERS__ZYGOTE": "false", "GEMMAD_MONITOR__INTERVAL": "1s"}
    return DaemonProcess(command, folder, env=env)


def memory(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """`gemmad memory` for whoever has the daemon's folders."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("GEMMAD_")}
    env |= {f"GEMMAD_{name}_DIR": str(folder / name.lower()) for name in ("RUNTIME", "STATE")}
    line = [sys.executable, "-m", "gemmad", "memory", *arguments]
    return subprocess.run(
        line, env=env, cwd=ROOT, capture_output=True, text=True, check=False, timeout=PATIENCE_SECONDS
    )


def ask(daemon: DaemonProcess, path: str) -> Any:
    connection = UnixConnection(daemon.folder / "runtime" / "control.sock", PATIENCE_SECONDS)
    try:
        connection.request("GET", path)
        return json.loads(connection.getresponse().read())
    finally:
        connection.close()


def ready_samples(daemon: DaemonProcess, *, since: float) -> list[dict[str, Any]]:
    samples: list[dict[str, Any]] = ask(daemon, f"/memory?since={since:.3f}&limit=5000")["samples"]
    return [sample for sample in samples if sample["state"] == "ready"]


def test_it_outlives_the_daemon(tmp_path: Path) -> None:
    """Samples are taken while it serves, told by the running daemon, by the next one, and by the file where none
    runs; a second's tokens and waits are told, too."""
    began = time.time()
    with start(tmp_path) as daemon:
        daemon.wait_ready()
        with daemon.client() as client:
            for _ in range(2):
                client.completions.create(model=MODEL, prompt="Once upon a time", max_tokens=100)
        daemon.wait_until(lambda: len(ready_samples(daemon, since=began)) >= SAMPLES)
        daemon.wait_until(lambda: any(point["tokens_per_second"] > 0 for point in ask(daemon, "/live")["points"]))
        latest = ask(daemon, "/live")["points"][-1]
        assert 0 < latest["ttft_p50"] <= latest["ttft_p95"]
        first = ready_samples(daemon, since=began)[0]
        assert (first["worker"], first["planned_bytes"], first["preemptions"]) == ("cpu0", None, 0)
        assert first["full_pages"] > 0
        assert first["kv_bytes"] > 0
        # A worker that has only just become ready has not said yet what it holds.
        assert ready_samples(daemon, since=began)[-1]["host_rss_bytes"] > 50 << 20
        assert ask(daemon, "/memory?since=soon")["error"]["param"] == "since"
        assert "as the running daemon tells" in memory(tmp_path).stdout
        daemon.stop()
    file = tmp_path / "state" / "history.sqlite3"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert not file.with_name("history.sqlite3-wal").exists()
    said = memory(tmp_path)
    assert said.returncode == 0, said.stderr
    assert "no daemon is running" in said.stdout
    assert "cpu0" in said.stdout
    ended = time.time()
    with start(tmp_path) as daemon:
        daemon.wait_ready()
        daemon.wait_until(lambda: len(ready_samples(daemon, since=ended)) >= 1)
        assert ready_samples(daemon, since=began)[0] == first
        daemon.signal(signal.SIGKILL)
        daemon.wait()
    kept = json.loads(memory(tmp_path, "--json").stdout)["samples"]
    assert kept[-1]["at"] > ended


def test_a_broken_file_and_no_folder(tmp_path: Path) -> None:
    """A daemon whose history is broken, or has no place, says so once and serves all the same."""
    began = time.time()
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "history.sqlite3").write_bytes(b"nonsense, and a good deal of it" * 100)
    with start(tmp_path) as daemon:
        daemon.wait_ready()
        daemon.wait_until(lambda: bool(ready_samples(daemon, since=began)))
        assert len(daemon.events("memory history begins anew")) == 1
        daemon.stop()
    other = tmp_path / "other"
    other.mkdir()
    (other / "state").write_text("a file where the folder should be")
    with start(other) as daemon:
        daemon.wait_ready()
        daemon.wait_until(lambda: len(ready_samples(daemon, since=began)) >= SAMPLES)
        assert len(daemon.events("memory history not kept")) == 1
        daemon.stop()
