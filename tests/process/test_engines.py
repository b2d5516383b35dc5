"""A daemon whose engine is changed while it serves."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.process.daemon import MODEL, DaemonProcess, start_demo

LAUNCHER = "gemmad/engines/launch.py"


def test_an_engine_is_taken_up_without_a_restart(tmp_path: Path) -> None:
    """A new engine leaves a running worker alone; the next life runs in it, as does the next zygote; when it is not
    current any more, lives are as before."""
    env = {"GEMMAD_STATE_DIR": str(tmp_path / "state"), "GEMMAD_RUNTIME_DIR": str(tmp_path / "runtime")}
    with start_demo(tmp_path) as daemon:
        daemon.wait_ready()
        daemon.wait_until(lambda: daemon.events("zygote is warm"))
        assert not _lives_in_engine(daemon)
        assert "own-1" in _gemmad("engine", "add", sys.executable, env=env)
        assert "no engine was in use" in _gemmad("engine", "rollback", env=env)
        assert not _lives_in_engine(daemon)
        assert "ready, life 2" in _gemmad("recycle", "--all", "--wait", env=env)
        assert _answer(daemon) == "1, 2, 3."
        daemon.wait_until(lambda: len(daemon.events("zygote is warm")) == 2)
        assert len(_lives_in_engine(daemon)) >= 2
        _gemmad("engine", "use", "none", env=env)
        _gemmad("recycle", "--all", "--wait", env=env)
        daemon.wait_until(lambda: not _lives_in_engine(daemon))
        assert _answer(daemon) == "1, 2, 3."


def _lives_in_engine(daemon: DaemonProcess) -> set[int]:
    return {pid for pid in daemon.children() if LAUNCHER in Path(f"/proc/{pid}/cmdline").read_text()}


def _answer(daemon: DaemonProcess) -> str | None:
    messages = [{"role": "user", "content": "Count to 3."}]
    with daemon.client() as client:
        reply = client.chat.completions.create(model=MODEL, messages=messages, temperature=0, max_tokens=12)  # type: ignore[arg-type]
    return reply.choices[0].message.content


def _gemmad(*arguments: str, env: dict[str, str]) -> str:
    """What the command says."""
    done = subprocess.run(
        [sys.executable, "-m", "gemmad", *arguments],
        env={"PATH": "/usr/bin:/bin", **env}, capture_output=True, text=True, check=False, timeout=100,
    )  # fmt: skip
    return done.stdout + done.stderr
