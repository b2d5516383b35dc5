"""`gemmad pull` as a process that is ended in its midst."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import gemmad.demo
from tests.fakes.hub import FakeHub, fake_hub, files_of

CHECKPOINT = Path(gemmad.demo.__file__).parent / "checkpoint"
NAME = "google/gemma-3-demo"
WEIGHTS = "model.safetensors"
HALF = 2_000_000
PATIENCE_SECONDS = 60.0


def start(folder: Path, hub: FakeHub) -> subprocess.Popen[str]:
    env = {**os.environ, "HF_ENDPOINT": hub.url, "HF_HOME": str(folder / "hf"), "GEMMAD_STATE_DIR": str(folder)}
    command = [sys.executable, "-m", "gemmad", "pull", NAME]
    return subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGKILL, -9)])
def test_a_pull_that_is_ended(tmp_path: Path, number: int, code: int) -> None:
    """A pull that is interrupted, or killed, leaves no model and ends at once; the next one goes on where it was."""
    part = tmp_path / "models/.pulling/google--gemma-3-demo" / f"{WEIGHTS}.part"
    with fake_hub(NAME, files_of(CHECKPOINT)) as hub:
        hub.holding = (WEIGHTS, HALF)
        with start(tmp_path, hub) as pull:
            give_up = time.monotonic() + PATIENCE_SECONDS
            while not part.exists() or part.stat().st_size < HALF // 2:
                assert pull.poll() is None
                assert time.monotonic() < give_up
                time.sleep(0.01)
            pull.send_signal(number)
            _, told = pull.communicate(timeout=PATIENCE_SECONDS / 4)
        assert pull.returncode == code
        assert told == ("" if code < 0 else f"gemmad: stopped; `gemmad pull {NAME}` goes on from here\n")
        assert not (tmp_path / "models/google--gemma-3-demo").exists()
        hub.released.set()
        hub.holding = None
        hub.asked.clear()
        with start(tmp_path, hub) as pull:
            _, told = pull.communicate(timeout=PATIENCE_SECONDS)
        assert (pull.returncode, told) == (0, "")
        ((file, span),) = hub.asked
        assert file == WEIGHTS
        assert span is not None
        assert int(span.removeprefix("bytes=").rstrip("-")) > 1_000_000
        content = (tmp_path / "models/google--gemma-3-demo" / WEIGHTS).read_bytes()
        assert content == hub.files[WEIGHTS]
