"""Workers that are renewed while they serve."""

from __future__ import annotations

import pytest

from gemmad.config.schema import RecycleSection
from gemmad.generation import EngineLoad, MemoryRow, Prompt, SamplingParams
from gemmad.protocol.messages import Drain, Heartbeat, Output, Ready, Shutdown, Stepped, Submit
from gemmad.supervisor.gpus import Gpus
from gemmad.supervisor.lifecycle import State
from gemmad.supervisor.listener import Outlook
from tests.fakes.child import CAPACITY
from tests.fakes.clock import settle
from tests.unit.supervisor.stage import GIB, HELLO, Stage, gpu, gpu_seat, play

HOURS = 7200.0
CALM = {"hang_timeout": 1e9}
"""Nobody sends heartbeats."""


def test_the_next_life_gets_ready_beside_the_old_one() -> None:
    """Where there is room the new one is ready first; then the old one finishes and goes, and nobody was without."""

    async def script(stage: Stage) -> None:
        await stage.get_ready()
        old = stage.child
        stage.pool.recycle("cpu0")
        await settle()
        assert len(stage.nursery.children) == 2
        assert stage.state() is State.READY
        stage.child.say(HELLO)
        await settle()
        assert stage.status.successor is not None
        assert (stage.status.life, stage.status.successor.life) == (1, 2)
        assert stage.status.successor.state is State.STARTING
        stage.child.load()
        await settle()
        assert (stage.status.life, stage.state()) == (2, State.READY)
        assert stage.status.successor is None
        assert old.heard[-1] == Drain()
        assert stage.listener.events == ["ready cpu0.1", "ready cpu0.2", "leaving cpu0.1"]
        assert [(each.life, each.state) for each in stage.status.leaving] == [(1, State.DRAINING)]
        old.say(Stepped(1, (Output(1, (5,)),)))
        await settle()
        assert stage.listener.said_tokens() == (5,)
        old.exit(0)
        await settle()
        assert stage.listener.events[-1] == "gone cpu0.1"
        assert stage.listener.outlooks == [Outlook.LOADING, Outlook.SERVING]
        assert stage.status.last_recycle == "it was asked for"
        assert stage.status.faults == 0
        assert await stage.after(HOURS) is State.READY
        assert stage.status.life == 2

    play(script, **CALM)


def test_what_does_not_finish_moves_on() -> None:
    """After recycle.grace the old one is told to exit, and what it had goes on at the new one."""

    async def script(stage: Stage) -> None:
        await stage.get_ready()
        old = stage.child
        stage.pool.recycle()
        await settle()
        stage.child.load()
        await stage.after(59)
        assert stage.listener.events[-1] == "leaving cpu0.1"
        await stage.after(1.1)
        assert stage.listener.events[-1] == "gone cpu0.1"
        assert old.heard[-1] == Shutdown()
        assert stage.status.life == 2

    play(script, **CALM)


def test_without_room_it_drains_first() -> None:
    """Where the host does not hold two, the old one finishes, and the next one begins when it is gone."""

    async def script(stage: Stage) -> None:
        stage.available = 10 * GIB
        await stage.get_ready()
        stage.child.say(Heartbeat(EngineLoad(host_rss_bytes=10 * GIB)))
        await settle()
        stage.pool.recycle()
        await settle()
        assert stage.state() is State.DRAINING
        assert len(stage.nursery.children) == 1
        assert stage.pool.outlook() is Outlook.RETURNING
        stage.child.exit(0)
        await settle()
        assert (stage.state(), stage.status.life) == (State.STARTING, 2)
        await stage.get_ready()
        assert stage.listener.events == ["ready cpu0.1", "leaving cpu0.1", "gone cpu0.1", "ready cpu0.2"]
        assert await stage.after(HOURS) is State.READY
        assert stage.status.life == 2

    play(script, **CALM)


@pytest.mark.parametrize(("free", "beside"), [(30, True), (10, False)])
def test_a_gpu_that_holds_two(free: int, beside: bool) -> None:
    """On a GPU a fresh look decides: with what the last life had planned free, the next one begins beside it."""

    async def script(stage: Stage) -> None:
        plan = (MemoryRow("weights", 20 * GIB),)
        stage.child.say(HELLO, Ready(capacity=CAPACITY, pid=1, seconds=1.0, memory=plan))
        await stage.after(100)
        stage.sight = Gpus((gpu(free=free),))
        looks = stage.looks
        stage.pool.recycle("gpu0")
        await settle()
        assert stage.looks > looks
        assert stage.state() is (State.READY if beside else State.DRAINING)
        assert len(stage.nursery.children) == (2 if beside else 1)

    play(script, seats=[gpu_seat()], gpus=[gpu()], **CALM)


def test_on_one_full_gpu_the_memory_is_waited_for_in_between() -> None:
    """Drained, gone, waited for, begun: no request is refused meanwhile."""

    async def script(stage: Stage) -> None:
        await stage.get_ready()
        await stage.after(5)
        stage.sight = Gpus((gpu(free=5),))
        stage.pool.recycle()
        assert await stage.after(1) is State.DRAINING
        stage.child.exit(0)
        assert await stage.after(5) is State.WAITING
        assert stage.pool.outlook() is Outlook.RETURNING
        stage.sight = Gpus((gpu(),))
        assert await stage.after(1) is State.STARTING
        await stage.get_ready()

    play(script, seats=[gpu_seat()], gpus=[gpu()], **CALM)


def test_one_at_a_time() -> None:
    """All are renewed one after another, each when the one before is over."""

    async def script(stage: Stage) -> None:
        for child in stage.nursery.children:
            child.load()
        await settle()
        stage.pool.recycle()
        for number in range(3):
            await settle()
            assert len(stage.nursery.children) == 4 + number
            assert [status.life for status in stage.pool.status()] == [2] * number + [1] * (3 - number)
            stage.child.load()
            await stage.after(10)
            assert len(stage.nursery.children) == 4 + number
            stage.nursery.children[number].exit(0)
        await settle()
        assert [status.life for status in stage.pool.status()] == [2, 2, 2]
        await stage.after(HOURS)
        assert len(stage.nursery.children) == 6

    play(script, seats=3, **CALM)


def test_the_last_one_that_is_ready_waits_for_the_others() -> None:
    """Without room beside it, a worker goes on until another is ready; if none will be, it is renewed all the same."""

    async def script(stage: Stage) -> None:
        stage.available = 0
        first, second = stage.nursery.children
        first.load()
        first.say(Heartbeat(EngineLoad(host_rss_bytes=GIB)))
        await settle()
        stage.pool.recycle("cpu0")
        assert await stage.after(60) is State.READY
        second.load()
        await settle()
        assert stage.state() is State.DRAINING
        first.exit(0)
        await settle()
        stage.child.load()
        stage.child.say(Heartbeat(EngineLoad(host_rss_bytes=GIB)))
        await stage.after(1)
        stage.pool.drain("cpu1")
        second.exit(0)
        await settle()
        stage.pool.recycle("cpu0")
        await settle()
        assert stage.state() is State.DRAINING

    play(script, seats=2, **CALM)


def test_a_successor_that_fails_costs_nothing() -> None:
    """The old one stays and serves, the failure is told, and the next try waits longer each time."""

    async def script(stage: Stage) -> None:
        await stage.get_ready()
        await stage.after(3600)
        for pause in (60, 120, 240):
            assert stage.status.successor is not None
            stage.child.exit(3)
            await settle()
            assert (stage.state(), stage.status.life) == (State.READY, 1)
            assert stage.status.successor is None
            assert stage.status.last_recycle == "failed: its settings or weights cannot work (exit 3)"
            assert stage.status.last_error is None
            await stage.after(pause - 6)
            assert stage.status.successor is None
            await stage.after(12)
        stage.child.load()
        await settle()
        assert (stage.state(), stage.status.life) == (State.READY, 5)
        assert stage.listener.outlooks == [Outlook.LOADING, Outlook.SERVING]

    play(script, recycle=RecycleSection(every=3600, jitter=0), **CALM)


def test_an_old_one_that_dies_meanwhile_is_followed_at_once() -> None:
    """While the next life loads, a crash of the old one makes the next one its successor without a pause."""

    async def script(stage: Stage) -> None:
        await stage.get_ready()
        stage.pool.recycle()
        await settle()
        stage.nursery.children[0].exit(-11)
        await settle()
        assert (stage.state(), stage.status.life, stage.status.faults) == (State.STARTING, 2, 1)
        assert "SIGSEGV" in (stage.status.last_error or "")
        assert len(stage.nursery.children) == 2
        assert stage.pool.outlook() is Outlook.RETURNING
        await stage.get_ready()
        await stage.after(HOURS)
        assert len(stage.nursery.children) == 2
        assert [verdict.value for _, verdict in stage.listener.verdicts] == ["suspect"]

    play(script, **CALM)


def test_by_the_clock() -> None:
    """Every so often a worker is renewed, and status tells when; a changed setting holds at once."""

    async def script(stage: Stage) -> None:
        await stage.get_ready()
        ready_at = stage.clock()
        assert stage.status.next_recycle_at == pytest.approx(ready_at + 3240)
        assert await stage.after(3239) is State.READY
        assert stage.status.successor is None
        await stage.after(1.1)
        assert stage.status.successor is not None
        stage.child.load()
        stage.nursery.children[0].exit(0)
        await settle()
        stage.recycle = RecycleSection(every=60, jitter=0)
        await stage.after(66)
        assert stage.status.successor is not None
        assert stage.status.last_recycle == "it is older than 60 s"

    play(script, recycle=RecycleSection(every=3600, jitter=0.1), **CALM)


def test_after_requests() -> None:
    """What was handed to a life is counted, whatever becomes of it."""

    async def script(stage: Stage) -> None:
        await stage.get_ready()
        for number in range(3):
            stage.listener.workers[0].send(Submit(number, Prompt((1,)), SamplingParams(max_tokens=1)))
            assert stage.status.requests == number + 1
        await stage.after(6)
        assert stage.status.last_recycle == "it was handed 3 requests"

    play(script, recycle=RecycleSection(after_requests=3), **CALM)


def test_growth_is_measured_from_the_first_heartbeat() -> None:
    """Memory beyond the baseline renews a worker that is old enough, once, and not the next life at once."""

    async def script(stage: Stage) -> None:
        await stage.get_ready()
        stage.child.say(Heartbeat(EngineLoad(device_bytes=10 * GIB)))
        await stage.after(700)
        assert len(stage.nursery.children) == 1
        stage.child.say(Heartbeat(EngineLoad(device_bytes=12 * GIB)))
        await stage.after(6)
        assert stage.status.last_recycle == "it has taken 2.0 GiB more of its GPU than when it was ready"
        stage.child.load()
        await settle()
        stage.nursery.children[0].exit(0)
        stage.child.say(Heartbeat(EngineLoad(device_bytes=10 * GIB)), Heartbeat(EngineLoad(device_bytes=20 * GIB)))
        await stage.after(1190)
        assert len(stage.nursery.children) == 2
        await stage.after(20)
        assert len(stage.nursery.children) == 3

    play(script, recycle=RecycleSection(vram_drift=GIB), **CALM)


def test_who_waits_for_its_next_life_begins_it_now() -> None:
    """Asked for, a worker that was given up is tried again at once; one that was drained stays away."""

    async def script(stage: Stage) -> None:
        stage.child.exit(3)
        await settle()
        assert stage.state() is State.FAILED
        stage.pool.recycle()
        await settle()
        assert stage.state() is State.STARTING
        stage.pool.drain()
        stage.child.exit(0)
        await settle()
        stage.pool.recycle("cpu0")
        assert await stage.after(10) is State.STOPPED
        with pytest.raises(KeyError):
            stage.pool.recycle("gpu7")

    play(script)


def test_one_that_loads_is_renewed_when_it_is_ready() -> None:
    """What was asked for is not forgotten."""

    async def script(stage: Stage) -> None:
        stage.pool.recycle("cpu0")
        await stage.after(5)
        assert len(stage.nursery.children) == 1
        await stage.get_ready()
        assert len(stage.nursery.children) == 2

    play(script, **CALM)


def test_a_restart_in_the_middle_of_a_renewal() -> None:
    """The next life is the one that loads already; no third one begins."""

    async def script(stage: Stage) -> None:
        await stage.get_ready()
        stage.pool.recycle("cpu0")
        await settle()
        stage.pool.restart("cpu0")
        await settle()
        assert stage.state() is State.DRAINING
        stage.nursery.children[0].exit(0)
        await settle()
        assert (stage.state(), stage.status.life) == (State.STARTING, 2)
        assert len(stage.nursery.children) == 2

    play(script, **CALM)


def test_a_drain_ends_a_renewal() -> None:
    """Who is drained in the middle of it leaves with its successor."""

    async def script(stage: Stage) -> None:
        await stage.get_ready()
        stage.pool.recycle()
        await settle()
        stage.pool.drain("cpu0")
        await settle()
        old, new = stage.nursery.children
        assert (old.heard[-1], new.heard[-1]) == (Drain(), Shutdown())
        old.exit(0)
        new.exit(0)
        assert await stage.after(60) is State.STOPPED
        assert stage.pool.outlook() is Outlook.NOBODY
        stage.pool.resume("cpu0")
        await settle()
        assert (stage.state(), stage.status.life) == (State.STARTING, 3)

    play(script, **CALM)


def test_the_end_of_the_daemon_ends_a_renewal() -> None:
    """Old and new are both told to stop, and both are gone."""

    async def script(stage: Stage) -> None:
        await stage.get_ready()
        stage.pool.recycle()
        await settle()

    stage = play(script, **CALM)
    assert [child.heard[-1] for child in stage.nursery.children] == [Shutdown(), Shutdown()]
