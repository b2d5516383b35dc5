"""The actors and their pool, over children that the test plays, on a clock that jumps."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Callable
from typing import Any

import pytest

from gemmad.config.schema import WorkersSection
from gemmad.generation import EngineLoad, EngineSettings
from gemmad.protocol.messages import (
    PROTOCOL_VERSION,
    Configure,
    Drain,
    Dying,
    Loading,
    Output,
    Shutdown,
    Stepped,
)
from gemmad.supervisor.life import Exited, HungUp, Said
from gemmad.supervisor.lifecycle import State
from gemmad.supervisor.listener import Outlook
from tests.fakes.child import CAPACITY
from tests.fakes.clock import run_virtually, settle
from tests.unit.supervisor.stage import BEAT, HELLO, READY, Stage, play


def test_a_worker_is_configured_loads_and_is_ready() -> None:
    """It is spawned with its seat's variables, gets its settings first, and is announced once it has served."""

    async def script(stage: Stage) -> None:
        assert stage.state() is State.STARTING
        assert stage.child.env["SEAT"] == "0"
        await settle()
        assert stage.child.heard == [Configure(PROTOCOL_VERSION, "cpu0", 1, stage.settings)]
        stage.child.say(HELLO, Loading(PROTOCOL_VERSION, "weights", 0.5))
        await settle()
        assert (stage.status.stage, stage.status.fraction) == ("weights", 0.5)
        assert stage.listener.events == []
        stage.child.say(READY)
        await settle()
        assert stage.state() is State.READY
        assert stage.status.capacity == CAPACITY
        assert stage.status.stage is None
        assert stage.listener.events == ["ready cpu0.1"]

    stage = play(script)
    assert stage.child.heard[-1] == Shutdown()
    assert stage.listener.outlooks == [Outlook.LOADING, Outlook.SERVING, Outlook.NOBODY]


def test_what_it_says_reaches_the_listener() -> None:
    """Steps and heartbeats go to the listener from ready on, in order."""

    async def script(stage: Stage) -> None:
        await stage.get_ready()
        stage.child.say(Stepped(1, (Output(1, (5, 6)),)), BEAT, Stepped(2, (Output(1, (7,)),)))
        await settle()
        assert stage.listener.said_tokens() == (5, 6, 7)
        assert stage.listener.loads == 1
        assert stage.status.load == EngineLoad()
        stage.listener.workers[0].send(Drain())
        await settle()
        assert stage.child.heard[-1] == Drain()

    play(script)


def test_signs_of_life_prolong_the_loading() -> None:
    """A worker may load for long as long as it says so; silence is its end."""

    async def script(stage: Stage) -> None:
        for _ in range(5):
            assert await stage.after(90) is State.STARTING
            stage.child.say(HELLO)
            await settle()
        assert await stage.after(100.1) is State.HUNG
        assert stage.child.examined == 1
        assert await stage.after(1) is State.BACKOFF
        assert stage.child.signals == [signal.SIGKILL]
        assert "no sign of life for 100 s" in (stage.status.last_error or "")

    play(script, load_timeout=100)


def test_a_silent_worker_is_killed_as_hung() -> None:
    """Without a heartbeat for hang_timeout its requests move on, it is asked for its stacks, and killed."""

    async def script(stage: Stage) -> None:
        await stage.get_ready()
        for _ in range(3):
            assert await stage.after(20) is State.READY
            stage.child.say(BEAT)
        await settle()
        stage.child.killable = False
        assert await stage.after(30.1) is State.HUNG
        assert stage.child.examined == 1
        assert stage.child.signals == []
        assert stage.listener.events == ["ready cpu0.1", "gone cpu0.1"]
        assert await stage.after(1) is State.KILLING
        stage.child.say(Stepped(1, (Output(1, (5,)),)))
        stage.child.exit(-9)
        await settle()
        assert stage.state() is State.BACKOFF
        assert stage.listener.said == []
        assert stage.status.last_error == "its step loop was silent for 30 s"

    play(script)


def test_a_changed_deadline_holds_for_a_running_worker() -> None:
    """A shorter hang_timeout is noticed within seconds, not after the old one."""

    async def script(stage: Stage) -> None:
        await stage.get_ready()
        stage.section = WorkersSection(hang_timeout=2)
        await stage.after(7)
        assert stage.nursery.children[0].signals == [signal.SIGKILL]

    play(script, hang_timeout=3000)


@pytest.mark.parametrize("hang_up_first", [True, False])
def test_a_crash_leads_to_the_next_life(hang_up_first: bool) -> None:
    """Whichever is seen first, the exit or the end of file, the death is explained by the exit and counted once."""

    async def script(stage: Stage) -> None:
        await stage.get_ready()
        stage.child.print_line("Segmentation fault")
        stage.child.exit(-11, hang_up_first=hang_up_first)
        await settle()
        assert stage.state() is State.BACKOFF
        assert "SIGSEGV" in stage.listener.reasons[0] or hang_up_first
        assert "SIGSEGV" in (stage.status.last_error or "")
        assert stage.status.faults == 1
        assert stage.status.retry_at == stage.clock() + 0.5
        assert await stage.after(0.51) is State.STARTING
        assert stage.status.life == 2
        await stage.get_ready()
        assert stage.listener.events == ["ready cpu0.1", "gone cpu0.1", "ready cpu0.2"]
        assert stage.listener.outlooks == [Outlook.LOADING, Outlook.SERVING, Outlook.RETURNING, Outlook.SERVING]

    play(script)


def test_what_was_said_before_a_death_counts() -> None:
    """Tokens that are still in the wire when the exit is seen are heard before the requests move on."""

    async def script(stage: Stage) -> None:
        await stage.get_ready()
        stage.child.say(Stepped(1, (Output(1, (5,)),)))
        stage.child.exit(1, hang_up_first=False)
        await settle()
        assert stage.listener.said_tokens() == (5,)
        assert stage.state() is State.BACKOFF

    play(script)


def test_a_wire_that_stays_open_does_not_hold_up_the_end() -> None:
    """When someone else still holds a dead worker's socket, its end is taken a second after its exit."""

    async def script(stage: Stage) -> None:
        await stage.get_ready()
        child = stage.child
        child.exited = True
        child._on_exit(1)
        await settle()
        assert stage.state() is State.READY
        assert await stage.after(1.01) is State.BACKOFF

    play(script)


def test_last_words_are_the_reason() -> None:
    """What a dying worker says is what operators read, and its exit code says what follows."""

    async def script(stage: Stage) -> None:
        await stage.get_ready()
        stage.child.say(Dying(4, "Xid 79: the GPU has fallen off the bus"))
        await settle()
        assert stage.state() is State.STOPPING
        assert stage.listener.events[-1] == "gone cpu0.1"
        stage.child.exit(4)
        await settle()
        assert stage.state() is State.BACKOFF
        assert stage.status.last_error == "Xid 79: the GPU has fallen off the bus"
        assert stage.status.retry_at == stage.clock() + 60.0

    play(script)


def test_a_dying_worker_that_stays_is_killed() -> None:
    """Last words without an exit are followed by SIGTERM and SIGKILL, and the fault stays the one it told."""

    async def script(stage: Stage) -> None:
        await stage.get_ready()
        stage.child.say(Dying(1, "CUDA error: device-side assert triggered"))
        await settle()
        await stage.after(5.01)
        assert stage.child.signals == [signal.SIGTERM]
        assert await stage.after(5.01) is State.BACKOFF
        assert stage.child.signals == [signal.SIGTERM, signal.SIGKILL]
        assert stage.status.last_error == "CUDA error: device-side assert triggered"

    play(script)


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ([READY], "its first message is Ready"),
        ([Loading(PROTOCOL_VERSION + 1, "imports", 0.0)], f"speaks version {PROTOCOL_VERSION + 1}"),
        ([HELLO, Stepped(1, ())], "Stepped from a worker that is not ready"),
        ([HELLO, READY, READY], "Ready from a worker that is ready"),
        ([HELLO, READY, HELLO], "Loading from a worker that is ready"),
    ],
)
def test_breaking_the_protocol_is_the_end_of_a_worker(words: list[Any], reason: str) -> None:
    """A message that cannot be there kills that worker, with the reason, and the next life begins."""

    async def script(stage: Stage) -> None:
        stage.child.say(*words)
        await settle()
        assert stage.child.signals == [signal.SIGKILL]
        assert stage.state() is State.BACKOFF
        assert reason in (stage.status.last_error or "")

    play(script)


def test_garbage_is_the_end_of_a_worker() -> None:
    """Bytes that are no message kill that worker at once."""

    async def script(stage: Stage) -> None:
        await stage.get_ready()
        stage.child.say_bytes(b"\x02\x00\x00\x00\xc1\xc1")
        await settle()
        assert stage.child.signals == [signal.SIGKILL]
        assert "broke the protocol" in stage.listener.reasons[0]

    play(script)


def test_what_the_listener_refuses_is_the_end_of_a_worker() -> None:
    """A message that only the dispatcher can judge kills the worker just the same."""

    async def script(stage: Stage) -> None:
        stage.listener._refuse = True
        await stage.get_ready()
        stage.child.say(Stepped(1, ()), Stepped(2, ()))
        await settle()
        assert stage.state() is State.BACKOFF
        assert "the listener refuses this" in (stage.status.last_error or "")

    play(script)


def test_a_bug_over_one_message_is_not_the_end_of_the_daemon(caplog: pytest.LogCaptureFixture) -> None:
    """When the daemon itself fails over what a worker said, it logs the bug, and the requests move on."""

    async def script(stage: Stage) -> None:
        await stage.get_ready()
        stage.listener.worker_said = None  # type: ignore[method-assign,assignment]
        stage.child.say(Stepped(1, ()))
        await settle()
        assert stage.listener.events == ["ready cpu0.1", "gone cpu0.1"]
        assert "the daemon failed over its message" in (stage.status.last_error or "")
        assert stage.state() is State.BACKOFF

    play(script)
    assert any(record.exc_info for record in caplog.records)


def test_a_worker_that_stopped_meanwhile_is_not_announced() -> None:
    """A Ready that crosses the order to stop is not heard any more."""

    async def script(stage: Stage) -> None:
        stage.pool.drain("cpu0")
        stage.child.load()
        await settle()
        assert stage.state() is State.STOPPING
        assert stage.listener.events == []
        stage.child.exit(0)
        await settle()
        assert stage.state() is State.STOPPED

    play(script)


def test_a_shorter_drain_replaces_a_longer_one() -> None:
    """Whoever drains again with less patience is heard."""

    async def script(stage: Stage) -> None:
        await stage.get_ready()
        stage.pool.drain("cpu0", grace_seconds=1000)
        assert await stage.after(1) is State.DRAINING
        stage.pool.drain("cpu0", grace_seconds=2)
        stage.child.say(BEAT)
        assert await stage.after(2.1) is State.STOPPING

    play(script)


def test_a_program_that_cannot_be_started_is_a_crash() -> None:
    """A missing program is retried with pauses and named."""

    async def script(stage: Stage) -> None:
        stage.child.exit(1)
        stage.nursery.missing = True
        await stage.after(1)
        assert stage.state() is State.BACKOFF
        assert "No such file" in (stage.status.last_error or "")
        stage.nursery.missing = False
        assert await stage.after(2) is State.STARTING

    play(script)


def test_a_spent_budget_is_failed_and_tries_again_by_itself() -> None:
    """After too many crashes nobody is promised a worker, and after a long pause it is tried again."""

    async def script(stage: Stage) -> None:
        for _ in range(5):
            while stage.state() is State.BACKOFF:
                await stage.after(0.25)
            stage.child.exit(1)
            await settle()
        assert stage.state() is State.FAILED
        assert stage.pool.outlook() is Outlook.NOBODY
        assert await stage.after(59) is State.FAILED
        assert await stage.after(2) is State.STARTING
        await stage.get_ready()

    play(script)


def test_settings_that_cannot_work_wait_for_others() -> None:
    """Exit 3 is not retried by time, but as soon as the settings differ."""

    async def script(stage: Stage) -> None:
        stage.child.say(HELLO, Dying(3, "weights: model.safetensors is missing"))
        stage.child.exit(3)
        await settle()
        assert stage.state() is State.FAILED
        assert stage.status.last_error == "weights: model.safetensors is missing"
        stage.pool.reconcile()
        assert await stage.after(86400) is State.FAILED
        stage.settings = EngineSettings(checkpoint="two")
        stage.pool.reconcile()
        await settle()
        assert stage.state() is State.STARTING
        assert stage.status.life == 2
        stage.child.exit(3)
        await settle()
        stage.pool.restart("cpu0")  # the weights were mended, the settings are the same
        await settle()
        assert stage.state() is State.STARTING

    play(script)


def test_faults_of_other_settings_do_not_count() -> None:
    """A worker that crashed often begins with a clean count once its settings differ."""

    async def script(stage: Stage) -> None:
        for _ in range(3):
            stage.child.exit(1)
            await stage.after(0.01)
            stage.pool.restart("cpu0")
            await settle()
        assert stage.status.faults == pytest.approx(3, abs=0.01)
        stage.settings = EngineSettings(checkpoint="two")
        stage.child.exit(1)
        await stage.after(0.01)
        stage.pool.restart("cpu0")
        await settle()
        stage.child.exit(1)
        await settle()
        assert stage.state() is State.BACKOFF
        assert stage.status.faults == 1

    play(script)


def test_a_report_about_an_earlier_life_is_dropped() -> None:
    """What is told late about a life that is over does not move the next one."""

    async def script(stage: Stage) -> None:
        await stage.get_ready()
        stage.child.exit(1)
        await stage.after(1)
        await stage.get_ready()
        worker = stage.pool._places["cpu0"].worker
        for report in (Exited(1, 1), HungUp(1, "end of file", broken=True), Said(1, Dying(3, "late"))):
            worker._post(report)
        await settle()
        assert stage.state() is State.READY
        assert stage.status.life == 2

    play(script)


def test_a_restart_drains_and_begins_the_next_life() -> None:
    """Recycling lets a worker finish, and the next one has the settings of that moment."""

    async def script(stage: Stage) -> None:
        await stage.get_ready()
        stage.settings = EngineSettings(checkpoint="two")
        stage.pool.restart("cpu0")
        await settle()
        assert stage.state() is State.DRAINING
        assert stage.child.heard[-1] == Drain()
        assert stage.listener.events[-1] == "leaving cpu0.1"
        stage.child.say(BEAT, Stepped(1, (Output(1, (5,)),)))
        await settle()
        assert stage.listener.said_tokens() == (5,)
        stage.child.exit(0)
        await settle()
        assert stage.state() is State.STARTING
        assert stage.status.faults == 0
        await settle()
        assert stage.child.heard == [Configure(PROTOCOL_VERSION, "cpu0", 2, stage.settings)]
        assert stage.listener.outlooks[-1] is Outlook.RETURNING

    play(script)


def test_a_drain_has_an_end() -> None:
    """A worker that does not finish in time is stopped, and its requests move on."""

    async def script(stage: Stage) -> None:
        await stage.get_ready()
        stage.pool.drain("cpu0", grace_seconds=25)
        assert await stage.after(24) is State.DRAINING
        assert await stage.after(2) is State.STOPPING
        assert stage.listener.events[-1] == "gone cpu0.1"
        stage.child.exit(0)
        assert await stage.after(100) is State.STOPPED
        assert stage.pool.outlook() is Outlook.NOBODY
        stage.pool.resume("cpu0")
        await settle()
        assert stage.state() is State.STARTING

    play(script)


def test_a_crash_while_draining_does_not_bring_a_held_worker_back() -> None:
    """Who was drained to stay away stays away, however its life ended."""

    async def script(stage: Stage) -> None:
        await stage.get_ready()
        stage.pool.drain("cpu0")
        await settle()
        stage.child.exit(1)
        assert await stage.after(100) is State.STOPPED
        assert stage.status.life == 1
        assert stage.status.last_error == "exited with status 1"

    play(script)


def test_a_stubborn_worker_is_asked_terminated_and_killed() -> None:
    """Stopping says it first, then SIGTERM at half of the grace, then SIGKILL at its end, and is no fault."""

    async def script(stage: Stage) -> None:
        await stage.get_ready()
        stage.pool.drain("cpu0", grace_seconds=0)
        await settle()
        assert await stage.after(4.9) is State.STOPPING
        assert stage.child.signals == []
        await stage.after(0.2)
        assert stage.child.signals == [signal.SIGTERM]
        assert await stage.after(5) is State.STOPPED
        assert stage.child.signals == [signal.SIGTERM, signal.SIGKILL]
        assert stage.status.last_error is None

    play(script)


def test_the_pool_does_not_wait_for_ever_for_the_kernel() -> None:
    """A process that survives SIGKILL is named and left behind, so that the daemon can end."""

    async def script(stage: Stage) -> None:
        await stage.get_ready()
        stage.child.killable = False
        began = stage.clock()
        await stage.pool.stop()
        assert 20 <= stage.clock() - began <= 30
        assert stage.state() is State.KILLING

    play(script)


def test_a_cancelled_pool_leaves_no_process() -> None:
    """When the daemon falls, its workers are killed and closed at once."""

    async def main(clock: Callable[[], float]) -> Stage:
        stage = Stage(clock, seats=2)
        task = asyncio.create_task(stage.pool.run())
        await settle()
        stage.child.load()
        await settle()
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        return stage

    stage = run_virtually(main)
    assert [child.closed for child in stage.nursery.children] == [True, True]
    assert stage.listener.events == ["ready cpu1.1", "gone cpu1.1"]


def test_a_stop_before_the_start() -> None:
    """A pool that was stopped before it ran starts nobody."""

    async def main(clock: Callable[[], float]) -> Stage:
        stage = Stage(clock)
        await stage.pool.stop()
        await stage.pool.run()
        return stage

    assert run_virtually(main).nursery.children == []


def test_the_wait_is_guessed_from_progress_and_from_the_last_time() -> None:
    """Who asks while a worker loads is told when it is likely to be ready."""

    async def script(stage: Stage) -> None:
        await stage.after(30)
        stage.child.say(HELLO, Loading(PROTOCOL_VERSION, "weights", 0.75))
        await settle()
        assert stage.pool.ready_in_seconds() == pytest.approx(10, rel=0.01)
        stage.child.say(READY)
        await settle()
        stage.child.exit(1)
        await settle()
        assert stage.pool.ready_in_seconds() == pytest.approx(30.5, rel=0.01)
        await stage.after(20.5)
        assert stage.pool.ready_in_seconds() == pytest.approx(10, rel=0.01)

    play(script)
