"""Real workers that hang or are stopped: their stacks are in the log before they are killed."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from gemmad.dispatch.dispatcher import Dispatcher
from gemmad.generation import SamplingParams
from gemmad.supervisor.hostmemory import MemoryWatch
from gemmad.supervisor.lifecycle import State
from gemmad.supervisor.listener import Verdict
from gemmad.supervisor.surroundings import Host
from tests.fakes.listener import RecordingListener
from tests.fakes.worker import Behaviour, Faults
from tests.process.daemon import DaemonProcess, is_alive
from tests.process.supervised import Watched, captured_logs, supervise
from tests.process.test_failover import ask_often, new_dispatcher, until_ready

TALK = SamplingParams(max_tokens=100_000)


def talker() -> RecordingListener:
    return RecordingListener(sampling=TALK)


def printed(logs: list[dict[str, Any]]) -> str:
    return "\n".join(log["line"] for log in logs if log["event"] == "worker output")


def judged(watched: Watched) -> list[Verdict]:
    assert isinstance(watched.listener, RecordingListener)
    return [verdict for _, verdict in watched.listener.verdicts]


def test_a_worker_that_hangs_writes_its_stacks() -> None:
    """Every thread's stack is in the log, with the worker's name, before the kill; then the next life serves."""

    async def script(watched: Watched) -> None:
        status = await watched.until_state(State.READY, life=2)
        assert status.last_error == "its step loop was silent for 0.4 s"
        assert judged(watched) == [Verdict.SUSPECT]

    faults = Faults(hang_after_tokens=5)
    with captured_logs() as logs:
        supervise(talker, Behaviour(faults=faults, faulty_lives=1), script, hang_timeout=0.4)
    assert "in hang" in printed(logs)
    assert "in read" in printed(logs)
    states = [log.get("state") for log in logs]
    assert states.index("hung") < [log.get("line", "") for log in logs].index(
        next(line for line in printed(logs).splitlines() if "in hang" in line)
    )
    assert states.index("hung") < states.index("killing")


def test_a_worker_that_is_stopped() -> None:
    """SIGSTOP is named as the cause, its stacks are written all the same, and no request is suspected of it."""

    async def script(watched: Watched) -> None:
        listener = watched.listener
        assert isinstance(listener, RecordingListener)
        await listener.until(lambda: len(listener.said_tokens()) >= 5)
        pid = watched.status.pid
        assert pid is not None
        os.kill(pid, signal.SIGSTOP)
        status = await watched.until_state(State.READY, life=2)
        assert status.last_error == "its step loop was silent for 0.4 s; it is stopped (SIGSTOP)"
        assert judged(watched) == [Verdict.INNOCENT]
        assert not is_alive(pid)

    with captured_logs() as logs:
        supervise(talker, Behaviour(), script, hang_timeout=0.4)
    assert "most recent call first" in printed(logs)


def test_a_worker_that_hangs_while_it_loads() -> None:
    """Loading has the longer limit, and its stacks are written too."""

    async def script(watched: Watched) -> None:
        await watched.until_state(State.READY, life=2)

    faults = Faults(silent_load=True, never_ready=True)
    with captured_logs() as logs:
        supervise(talker, Behaviour(faults=faults, faulty_lives=1), script, load_timeout=0.5)
    assert "in load" in printed(logs)


def test_a_stopped_worker_costs_no_request() -> None:
    """What it had goes on at another one as soon as it is found out, not only when it is dead."""

    async def script(watched: Watched) -> None:
        assert isinstance(watched.listener, Dispatcher)
        await until_ready(watched, 2)
        pid = watched.status.pid
        assert pid is not None
        os.kill(pid, signal.SIGSTOP)
        await ask_often(watched, 16)
        assert watched.listener.status().counts.failed == 0

    supervise(new_dispatcher, Behaviour(step_seconds=0.003), script, seats=2, hang_timeout=0.5)


@pytest.mark.parametrize(
    ("kills", "verdict", "reason"),
    [
        (0, Verdict.INNOCENT, "killed by SIGKILL from outside (exit -9)"),
        (1, Verdict.SUSPECT, "killed by the kernel: the memory limit of its cgroup was reached"),
    ],
)
def test_a_kill_for_lack_of_memory_is_told_apart(tmp_path: Path, kills: int, verdict: Verdict, reason: str) -> None:
    """A SIGKILL is the kernel's if it has just counted one, and somebody else's if not; the first makes suspects."""
    events = tmp_path / "sys/fs/cgroup/gemmad/memory.events"
    events.parent.mkdir(parents=True)
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text("0::/gemmad\n")
    events.write_text("oom_kill 0\n")

    async def script(watched: Watched) -> None:
        status = await watched.until_state(State.READY)
        assert status.pid is not None
        events.write_text(f"oom_kill {kills}\n")
        os.kill(status.pid, signal.SIGKILL)
        status = await watched.until_state(State.READY, life=2)
        assert status.last_error == reason
        assert judged(watched) == [verdict]

    host = Host(watch_memory=lambda pid: MemoryWatch(pid, root=tmp_path))
    supervise(talker, Behaviour(), script, host=host)


def test_the_real_worker_writes_its_stacks(tmp_path: Path) -> None:
    """One on the bundled model that is stopped shows in the daemon's log where it was, and its next life serves."""
    command = [sys.executable, "-m", "gemmad", "serve", "--demo", "--port", "0"]
    env = {"GEMMAD_ENGINE__DEVICE": "cpu", "GEMMAD_WORKERS__HANG_TIMEOUT": "2s"}
    with DaemonProcess(command, tmp_path, env=env) as daemon:
        daemon.wait_ready()
        pid = worker_pid(daemon)
        os.kill(pid, signal.SIGSTOP)
        daemon.wait_until(lambda: "gemmad/worker/loop.py" in daemon.log)
        daemon.wait_until(lambda: not is_alive(pid))
        daemon.wait_ready()
        assert "it is stopped (SIGSTOP)" in daemon.log


def worker_pid(daemon: DaemonProcess) -> int:
    """The one child that runs gemmad.worker."""
    (pid,) = daemon.running("gemmad.worker")
    return pid
