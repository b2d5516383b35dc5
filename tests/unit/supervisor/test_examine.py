"""What the kernel says of a silent process."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest

from gemmad.supervisor.examine import Condition, condition_of


@pytest.mark.parametrize(
    ("state", "wchan", "condition"),
    [
        ("S", "", None),
        ("R", "", None),
        ("Z", "", None),
        ("T", "", Condition("it is stopped (SIGSTOP)", from_outside=True)),
        ("t", "", Condition("a debugger holds it", from_outside=True)),
        ("D", "0", Condition("it sits in the kernel", from_outside=False)),
        ("D", "nv_wait", Condition("it sits in the kernel, in nv_wait", from_outside=False)),
    ],
)
def test_states(tmp_path: Path, state: str, wchan: str, condition: Condition | None) -> None:
    """A process that cannot move is told as such, with where it sits; any other could, and keeps its own counsel."""
    folder = tmp_path / "7"
    folder.mkdir()
    (folder / "stat").write_text(f"7 (a ) b (c) {state} 1 7 7 0")
    (folder / "wchan").write_text(wchan)
    assert condition_of(7, tmp_path) == condition


def test_a_process_that_is_gone(tmp_path: Path) -> None:
    """There is nothing to tell."""
    assert condition_of(7, tmp_path) is None


def test_a_stopped_process() -> None:
    """The real kernel says so of a process that got SIGSTOP."""
    with subprocess.Popen(["sleep", "60"]) as process:
        try:
            process.send_signal(signal.SIGSTOP)
            os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WNOWAIT)
            condition = condition_of(process.pid)
            assert condition is not None
            assert condition.from_outside
        finally:
            process.kill()
