"""What the README tells people to try, tried."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Protocol

import pytest

README = Path(__file__).parents[2] / "README.md"
ADDRESS = "http://127.0.0.1:4363"
DEADLINE_SECONDS = 60


class RunningDaemon(Protocol):
    """What the fixture `demo_daemon` yields."""

    base_url: str
    port: int


def snippet(language: str, containing: str, daemon: RunningDaemon) -> str:
    """The README's block of this language with this in it, with the daemon's address for its own."""
    blocks = re.findall(rf"^```{language}\n(.*?)^```$", README.read_text(), re.DOTALL | re.MULTILINE)
    (block,) = [block for block in blocks if containing in block]
    assert ADDRESS in block
    return str(block.replace(ADDRESS, f"http://127.0.0.1:{daemon.port}"))


def test_the_sdk_snippet_streams_a_right_answer(demo_daemon: RunningDaemon) -> None:
    """The Python snippet asks about a picture with OpenAI's SDK, and what it prints is right."""
    script = snippet("python", "OpenAI", demo_daemon)
    result = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=DEADLINE_SECONDS
    )
    assert result.returncode == 0, result.stderr
    answer = result.stdout.strip()
    assert answer == "A red circle."
    assert f"It answers `{answer}`" in README.read_text()


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
def test_the_curl_line_answers(demo_daemon: RunningDaemon) -> None:
    """The curl line counts to ten."""
    script = snippet("sh", "curl", demo_daemon)
    result = subprocess.run(
        ["bash", "-c", script], capture_output=True, text=True, check=False, timeout=DEADLINE_SECONDS
    )
    assert result.returncode == 0, result.stderr
    content = json.loads(result.stdout)["choices"][0]["message"]["content"]
    assert "10" in content
