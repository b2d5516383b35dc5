"""How a worker gets ready, seen from outside."""

from __future__ import annotations

import os
import pty
import select
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import msgspec

from tests.fakes.worker import Behaviour
from tests.process.daemon import MODEL, PATIENCE_SECONDS, ROOT, DaemonProcess, start_fake

IMPORTED = """
import sys
from gemmad.demo import CHECKPOINT
from gemmad.generation import EngineSettings
import gemmad.worker.loop
engine = gemmad.worker.loop.build_engine(
    EngineSettings(checkpoint=str(CHECKPOINT), kv_bytes=64 << 20), progress=lambda *_: None
)
engine.warm_up()
slow = ["transformers", "accelerate", "huggingface_hub", "torch._dynamo", "torch._inductor", "torch.distributed.tensor",
        "torchvision", "sklearn", "scipy", "pandas", "sympy"]
print(*(name for name in slow if name in sys.modules))
"""


def test_a_worker_imports_little() -> None:
    """Nothing that takes seconds to import is needed to load the bundled model, its tower included, and to warm up."""
    result = subprocess.run([sys.executable, "-c", IMPORTED], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert result.stdout.split() == []


def test_a_worker_compiles_into_the_cache_folder(demo_daemon: DaemonProcess) -> None:
    """A real worker's environment leads its compilers into gemmad's cache folder, which is its owner's alone."""
    (pid,) = demo_daemon.running("gemmad.worker")
    lines = Path(f"/proc/{pid}/environ").read_bytes().decode().split("\0")
    env = dict(line.split("=", 1) for line in lines if line)
    folder = demo_daemon.folder / "cache"
    assert env["TRITON_CACHE_DIR"] == str(folder / "triton")
    assert env["CUDA_CACHE_PATH"] == str(folder / "cuda")
    assert stat.S_IMODE((folder / "triton").stat().st_mode) == 0o700


def test_how_long_it_took_is_in_the_log(demo_daemon: DaemonProcess) -> None:
    """The worker's own lines are events of the daemon's log: how fast weights came, and the seconds of each stage."""
    (weights,) = demo_daemon.events("weights loaded")
    assert weights["worker"] == "cpu0"
    assert weights["bytes"] > 4_000_000
    assert weights["gigabytes_per_second"] > 0
    (loaded,) = demo_daemon.events("worker loaded")
    assert (loaded["worker"], loaded["life"], loaded["level"]) == ("cpu0", 1, "info")
    assert {"imports", "weights", "memory", "warm_up"} <= loaded.keys()
    stages = [line["stage"] for line in demo_daemon.events("worker loading")]
    assert len(stages) == len(set(stages)), "one line for each change of stage"
    assert stages[0] == "imports"


def test_a_cache_folder_that_cannot_be_written(tmp_path: Path) -> None:
    """It is said once, and everything goes on."""
    (tmp_path / "file").write_text("in the way")
    with start_fake(tmp_path, env={"GEMMAD_CACHE_DIR": str(tmp_path / "file")}) as daemon:
        daemon.wait_ready()
        (warning,) = daemon.events("cache folder cannot be written")
        assert (warning["level"], warning["path"]) == ("warning", str(tmp_path / "file"))


def test_a_person_sees_a_bar(tmp_path: Path) -> None:
    """On a terminal a bar tells what is loaded and how much of it; it is gone when the daemon is ready."""
    ours, theirs = pty.openpty()
    folders = {f"GEMMAD_{name}_DIR": str(tmp_path / name.lower()) for name in ("CONFIG", "STATE", "CACHE", "RUNTIME")}
    env = os.environ | folders | {"TERM": "xterm-256color", "COLUMNS": "200"}
    behaviour = msgspec.json.encode(Behaviour(load_seconds=1.0)).decode()
    command = [sys.executable, "tests/fakes/daemon.py", "--behaviour", behaviour, "--set", "server.port=0"]
    daemon = subprocess.Popen(command, cwd=ROOT, env=env, stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    try:
        shown = _until(ours, MODEL)  # the event `ready` names it
        daemon.send_signal(signal.SIGTERM)
        after = _until(ours, "stopped")
    finally:
        daemon.kill()
        daemon.wait(PATIENCE_SECONDS)
        os.close(ours)
    assert "loading weights" in shown
    assert "%" in shown
    assert "loading" not in after


def _until(terminal: int, words: str) -> str:
    """All that was shown up to these words."""
    shown, until = "", time.monotonic() + PATIENCE_SECONDS
    while words not in shown:
        assert select.select([terminal], [], [], max(0.0, until - time.monotonic()))[0], shown
        shown += os.read(terminal, 65536).decode(errors="replace")
    return shown
