"""The supervisor over a real program that misbehaves in every way that it knows."""

from __future__ import annotations

import ast
import asyncio
import os
import signal
from typing import Any

import pytest

from gemmad.generation import Prompt, SamplingParams
from gemmad.supervisor.lifecycle import State
from gemmad.supervisor.process import MAX_LINE_BYTES
from tests.fakes.listener import RecordingListener
from tests.fakes.worker import Behaviour, Faults, expected_reply
from tests.process.supervised import Watched, captured_logs, supervise, wait_for_exits

TALK = SamplingParams(max_tokens=1000)


def listen(*, talk: bool = False) -> Any:
    return lambda: RecordingListener(sampling=TALK if talk else None)


def test_a_good_worker_serves_and_stops_when_told() -> None:
    """It loads, says what it was asked for, and is gone with exit 0 within the grace, without a signal."""

    async def script(watched: Watched) -> None:
        listener = watched.listener
        assert isinstance(listener, RecordingListener)
        await listener.until(lambda: len(listener.said_tokens()) >= 5)
        await listener.until(lambda: listener.loads >= 2)

    with captured_logs() as logs:
        watched = supervise(listen(talk=True), Behaviour(), script)
    assert watched.status.state is State.STOPPED
    assert watched.status.last_error is None
    assert [log["state"] for log in logs if log["event"] == "worker state"] == [
        "starting",
        "ready",
        "stopping",
        "stopped",
    ]
    assert logs[-1]["reason"] == "exited as asked"


def test_a_drained_worker_finishes_first() -> None:
    """After a drain all of the reply arrives, then the process ends by itself, and the next life begins."""
    sampling = SamplingParams(max_tokens=40)

    async def script(watched: Watched) -> None:
        listener = watched.listener
        assert isinstance(listener, RecordingListener)
        await listener.until(lambda: len(listener.said_tokens()) >= 3)
        watched.pool.restart("cpu0")
        await watched.until_state(State.DRAINING)
        await watched.until_state(State.STARTING, life=2)
        assert listener.said_tokens() == expected_reply(Prompt((1, 2, 3)), sampling)[0]
        assert watched.status.faults == 0

    supervise(lambda: RecordingListener(sampling=sampling), Behaviour(), script)


@pytest.mark.parametrize(
    ("faults", "reason"),
    [
        (Faults(crash_after_tokens=3), "SIGKILL"),
        (Faults(crash_after_tokens=3, crash_with=-signal.SIGSEGV), "SIGSEGV"),
        (Faults(crash_after_tokens=3, crash_with=1), "exited with status 1: about to work"),
        (Faults(crash_after_tokens=3, crash_with=0), "exited though nobody asked it to"),
        (Faults(crash_after_tokens=3, crash_with=1, last_words="page count is broken"), "page count is broken"),
        (Faults(garbage_after_tokens=3), "broke the protocol"),
        (Faults(hang_after_tokens=3), "its step loop was silent for 0.4 s"),
        (Faults(hang_up_after_tokens=3), "it hung up and did not exit"),
        (Faults(hang_up_after_tokens=3, ignore_sigterm=True), "it hung up and did not exit"),
        (Faults(load_exit=1), "exited with status 1"),
        (Faults(load_exit=-signal.SIGABRT), "SIGABRT"),
        (Faults(first_message="old"), "it speaks version"),
        (Faults(first_message="garbage"), "broke the protocol"),
        (Faults(first_message="ready"), "its first message is"),
    ],
)
def test_a_fault_ends_one_life_and_the_next_one_serves(faults: Faults, reason: str) -> None:
    """Whatever a worker does wrong, it is gone, the reason is told in words, and its next life is ready."""
    behaviour = Behaviour(faults=faults, faulty_lives=1, print_lines=("about to work",))

    async def script(watched: Watched) -> None:
        status = await watched.until_state(State.READY, life=2)
        assert reason in (status.last_error or "")
        assert status.faults == 1

    supervise(listen(talk=True), behaviour, script, hang_timeout=0.4, stop_grace=0.4)


def test_a_worker_that_never_gets_ready() -> None:
    """As long as it gives signs of life a load may take; silent, it is killed and the next life begins."""

    async def script(watched: Watched) -> None:
        first = await watched.until_state(State.STARTING)
        await watched.until(lambda: watched.status.stage == "weights")
        await asyncio.sleep(0.5)  # longer than it may be silent
        assert watched.status.pid == first.pid

    supervise(listen(), Behaviour(faults=Faults(never_ready=True)), script, load_timeout=0.4)


def test_a_worker_that_loads_without_a_sign_of_life() -> None:
    """After load_timeout of silence it is killed."""

    async def script(watched: Watched) -> None:
        status = await watched.until_state(State.READY, life=2)
        assert "no sign of life for 0.5 s" in (status.last_error or "")

    faults = Faults(silent_load=True, never_ready=True)
    supervise(listen(), Behaviour(faults=faults, faulty_lives=1), script, load_timeout=0.5)


def test_settings_that_cannot_work_are_not_retried() -> None:
    """Exit 3 is FAILED with its last words, until the settings differ."""
    faults = Faults(load_exit=3, last_words="config.json: not a Gemma 3 checkpoint")

    async def script(watched: Watched) -> None:
        status = await watched.until_state(State.FAILED)
        assert status.last_error == "config.json: not a Gemma 3 checkpoint"
        assert status.retry_at is None
        watched.settings = type(watched.settings)(checkpoint="two")
        watched.pool.reconcile()
        await watched.until_state(State.READY, life=2)

    supervise(listen(), Behaviour(faults=faults, faulty_lives=1), script)


def test_a_lost_device_waits_long() -> None:
    """Exit 4 is retried after the longest pause, not at once."""

    async def script(watched: Watched) -> None:
        status = await watched.until_state(State.BACKOFF)
        assert status.retry_at is not None
        assert status.retry_at - status.since > 40
        assert "GPU is lost" in (status.last_error or "")

    supervise(listen(), Behaviour(faults=Faults(load_exit=4)), script)


def test_crashing_for_ever_is_failed() -> None:
    """A worker that dies in every life is given up after its budget, with the reason."""

    async def script(watched: Watched) -> None:
        status = await watched.until_state(State.FAILED)
        assert status.life == 3
        assert status.retry_at is not None

    supervise(listen(), Behaviour(faults=Faults(load_exit=1)), script, restart_budget=3)


@pytest.mark.parametrize(
    ("faults", "how"),
    [
        (Faults(ignore_shutdown=True), "killed by SIGTERM"),
        (Faults(ignore_shutdown=True, ignore_sigterm=True, ignore_end_of_file=True), "not gone after 0.6 s"),
        (Faults(hang_after_tokens=1, ignore_shutdown=True, ignore_sigterm=True), "not gone after 0.6 s"),
    ],
)
def test_a_stubborn_worker_is_gone_all_the_same(faults: Faults, how: str) -> None:
    """Who ignores the word gets SIGTERM, who ignores that gets SIGKILL, and stopping is no fault."""

    async def script(watched: Watched) -> None:
        listener = watched.listener
        assert isinstance(listener, RecordingListener)
        await listener.until(lambda: len(listener.said_tokens()) >= 1)

    with captured_logs() as logs:
        watched = supervise(listen(talk=True), Behaviour(faults=faults), script, stop_grace=0.6)
    assert how in logs[-1]["reason"]
    assert watched.status.state is State.STOPPED
    assert watched.status.last_error is None


def test_a_worker_that_will_not_drain_is_stopped() -> None:
    """At the end of its grace a drain becomes a stop."""

    async def script(watched: Watched) -> None:
        await watched.until_state(State.READY)
        watched.pool.drain("cpu0", grace_seconds=0.2)
        await watched.until_state(State.STOPPED)

    supervise(listen(), Behaviour(faults=Faults(ignore_drain=True)), script)


def test_nothing_of_the_daemon_leaks_into_a_worker() -> None:
    """A worker has stdin, stdout, stderr and its socket, whatever the daemon has open, and nothing else."""
    read_fd, write_fd = os.pipe()
    os.set_inheritable(write_fd, True)

    async def script(watched: Watched) -> None:
        await watched.until_state(State.READY)
        await watched.until(lambda: len(printed(logs)) == 1)

    try:
        with captured_logs() as logs:
            supervise(listen(), Behaviour(print_descriptors=True), script)
    finally:
        os.close(read_fd)
        os.close(write_fd)
    descriptors = ast.literal_eval(printed(logs)[0].removeprefix("descriptors "))
    assert descriptors[:3] == [0, 1, 2]
    assert len(descriptors) == 5  # the socket, and the folder that it lists


def test_a_worker_runs_on_the_processors_of_its_seat() -> None:
    """Wherever the daemon may run, the worker and what it starts run where their GPU is near."""
    cpu = min(os.sched_getaffinity(0))

    async def script(watched: Watched) -> None:
        status = await watched.until_state(State.READY)
        assert status.pid is not None
        assert os.sched_getaffinity(status.pid) == {cpu}
        await watched.until(lambda: len(printed(logs)) == 1)
        assert os.sched_getaffinity(int(printed(logs)[0].removeprefix("child "))) == {cpu}

    with captured_logs() as logs:
        supervise(listen(), Behaviour(start_child=True), script, cpus=(cpu,))


def test_what_a_worker_prints_is_in_the_log() -> None:
    """Its lines arrive one by one, with its name and life, before its exit; a line without measure is cut."""
    lines = ("one", "x" * 100_000, "Ünïcödé")

    async def script(watched: Watched) -> None:
        await watched.until_state(State.BACKOFF)

    with captured_logs() as logs:
        supervise(listen(), Behaviour(print_lines=lines, faults=Faults(load_exit=1)), script, restart_pause=5)
    assert printed(logs) == ["one", "x" * MAX_LINE_BYTES + " …", "Ünïcödé"]
    assert [(log["worker"], log["life"]) for log in logs if log["event"] == "worker output"] == [("cpu0", 1)] * 3
    assert [log["event"] for log in logs].index("worker output") < [log.get("state") for log in logs].index("backoff")


def test_what_a_worker_started_goes_with_it() -> None:
    """A process that a worker started does not outlive it, and does not hold up its end."""
    found: list[int] = []

    async def script(watched: Watched) -> None:
        await watched.until(lambda: len(printed(logs)) == 1)
        found.append(os.pidfd_open(int(printed(logs)[0].removeprefix("child "))))
        await watched.until_state(State.READY)

    with captured_logs() as logs:
        supervise(listen(), Behaviour(start_child=True), script)
    assert wait_for_exits(found)


def test_a_program_that_is_not_there() -> None:
    """A command that cannot be run is a crash with its reason, and no life is left half begun."""

    async def main() -> str | None:
        watched = Watched(RecordingListener(), ("/nonexistent/worker",))
        async with watched.running():
            return (await watched.until_state(State.BACKOFF)).last_error

    assert "No such file or directory" in (asyncio.run(main()) or "")


def test_the_death_of_a_worker_is_seen_at_once() -> None:
    """Nobody polls: between a SIGKILL and the reaction there are milliseconds."""
    seconds: list[float] = []

    async def die_once(watched: Watched, listener: RecordingListener, life: int) -> None:
        status = await watched.until_state(State.READY, life=life)
        assert status.pid is not None
        began = asyncio.get_running_loop().time()
        os.kill(status.pid, signal.SIGKILL)
        await listener.until(lambda: len(listener.reasons) == life)
        seconds.append(asyncio.get_running_loop().time() - began)

    async def script(watched: Watched) -> None:
        assert isinstance(watched.listener, RecordingListener)
        for life in range(1, 6):
            await die_once(watched, watched.listener, life)

    supervise(listen(), Behaviour(), script, restart_budget=100)
    assert sorted(seconds)[2] < 0.1


def printed(logs: Any) -> list[str]:
    return [log["line"] for log in logs if log["event"] == "worker output"]
