"""Workers that wait for their GPU, and for memory on it."""

from __future__ import annotations

import logging

import msgspec
import pytest

from gemmad.config.schema import WorkersSection
from gemmad.errors import ConfigError
from gemmad.generation import EngineSettings, MemoryRow
from gemmad.protocol.messages import Dying, Ready
from gemmad.supervisor.gpus import Gpus, Holder
from gemmad.supervisor.lifecycle import State
from gemmad.supervisor.listener import Outlook
from gemmad.supervisor.pool import Seat
from gemmad.supervisor.seating import Seating
from tests.fakes.child import CAPACITY
from tests.fakes.clock import settle
from tests.unit.supervisor.stage import GIB, HELLO, Stage, gpu, gpu_seat, play

HELD = (Holder(7, "zombie", 60 * GIB),)


def held(free: int = 20) -> Gpus:
    return Gpus((gpu(free=free, holders=HELD),))


def test_a_life_on_a_free_gpu_begins_at_once() -> None:
    """It is looked at, and the worker is spawned on the processors beside it."""

    async def script(stage: Stage) -> None:
        assert stage.state() is State.STARTING
        assert stage.looks <= 2
        assert stage.child.cpus == (4, 5)

    seat = Seat("gpu0", "cuda:0", {}, gpu="GPU-0000", cpus=(4, 5))
    play(script, seats=[seat], gpus=[gpu()])


def test_memory_is_waited_for() -> None:
    """A GPU that is not free yet keeps the next life waiting, and is looked at until it is."""

    async def script(stage: Stage) -> None:
        await stage.get_ready()
        stage.sight = held()
        stage.child.exit(-9)
        assert await stage.after(0.6) is State.WAITING
        assert stage.status.stage == "memory"
        assert stage.status.waits_for == (
            "GPU 0 has 20.0 GiB free of 72.0 GiB needed; it is held by zombie (pid 7) 60.0 GiB"
        )
        assert stage.pool.outlook() is Outlook.RETURNING
        assert stage.status.pid is None
        before = stage.looks
        assert await stage.after(20) is State.WAITING
        assert stage.looks - before == pytest.approx(40, abs=1)
        stage.sight = Gpus((gpu(),))
        assert await stage.after(0.6) is State.STARTING
        assert stage.status.life == 2

    play(script, seats=[gpu_seat()], gpus=[gpu()])


def test_a_look_from_before_the_wait_does_not_count() -> None:
    """What was seen before the last life ended says nothing of the memory that it held."""

    async def script(stage: Stage) -> None:
        await stage.get_ready()
        stage.child.exit(1)
        await settle()
        stage.sight = held()
        assert await stage.after(0.51) is State.WAITING

    play(script, seats=[gpu_seat()], gpus=[gpu()])


def test_the_plan_of_the_last_life_is_what_is_needed() -> None:
    """A worker that told what it takes waits for that and no more; with other settings for all that they allow."""

    async def script(stage: Stage) -> None:
        plan = (MemoryRow("weights", 10 * GIB), MemoryRow("pages", 9 * GIB))
        stage.child.say(HELLO, Ready(capacity=CAPACITY, pid=1, seconds=1.0, memory=plan))
        await settle()
        stage.sight = held()
        stage.child.exit(-9)
        assert await stage.after(0.6) is State.STARTING
        stage.settings = EngineSettings(checkpoint="two")
        stage.child.exit(-9)
        assert await stage.after(2) is State.WAITING

    play(script, seats=[gpu_seat()], gpus=[gpu()])


def test_memory_that_does_not_come_back(caplog: pytest.LogCaptureFixture) -> None:
    """After memory_timeout the life begins all the same; who holds the memory is in the log and in its fault."""

    async def script(stage: Stage) -> None:
        assert await stage.after(29) is State.WAITING
        assert await stage.after(1.1) is State.STARTING
        stage.child.say(HELLO, Dying(3, "CUDA out of memory"))
        stage.child.exit(3)
        await settle()
        assert stage.state() is State.BACKOFF  # time may heal it
        assert stage.status.last_error == (
            "CUDA out of memory; it was begun although GPU 0 has 20.0 GiB free of 72.0 GiB needed; "
            "it is held by zombie (pid 7) 60.0 GiB"
        )

    with caplog.at_level(logging.INFO, "gemmad.supervisor"):
        play(script, seats=[gpu_seat()], gpus=held().found, memory_timeout=30)
    warnings = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert any("zombie (pid 7)" in text and "although" in text for text in warnings)


def test_a_driver_that_does_not_answer_is_waited_for() -> None:
    """A look that hangs is told as what is lacking, and nothing begins before there is an answer."""

    async def script(stage: Stage) -> None:
        await stage.get_ready()
        stage.sees.clear()
        stage.child.exit(1)
        assert await stage.after(5) is State.WAITING
        assert (stage.status.stage, stage.status.waits_for) == ("news", None)
        assert await stage.after(60) is State.WAITING
        assert "has not answered for 10 s" in (stage.status.waits_for or "")
        stage.sees.set()
        assert await stage.after(31) is State.STARTING

    play(script, seats=[gpu_seat()], gpus=[gpu()], memory_timeout=30)


def test_a_gpu_that_is_lost_is_waited_for() -> None:
    """Its worker comes back with it, however long that takes, and the others go on."""

    async def script(stage: Stage) -> None:
        for child in stage.nursery.children:
            child.load()
        await settle()
        lost, other = stage.pool.status()
        assert (lost.state, other.state) == (State.READY, State.READY)
        stage.sight = Gpus((gpu(1),), "GPU 0 does not answer: GPU is lost")
        stage.nursery.children[0].say(Dying(4, "Xid 79"))
        stage.nursery.children[0].exit(4)
        assert await stage.after(61) is State.WAITING
        assert stage.status.waits_for == (
            "GPU GPU-0000 is not there (GPU 0 does not answer: GPU is lost); found: 1 (GPU-0001)"
        )
        assert stage.pool.status()[1].life == 1
        assert stage.pool.outlook() is Outlook.SERVING
        stage.nursery.children[1].exit(-9)
        await stage.after(1)
        stage.nursery.children[2].load()
        before = stage.looks
        assert await stage.after(25) is State.WAITING
        stage.sight = Gpus((gpu(0), gpu(1)))
        assert await stage.after(31) is State.STARTING
        assert stage.looks - before < 20
        assert stage.status.life == 2

    play(script, seats=[gpu_seat(0), gpu_seat(1)], gpus=[gpu(0), gpu(1)], hang_timeout=1000)


def test_an_operator_may_stop_a_worker_that_waits() -> None:
    """Drained, it stays away though its GPU comes back; resumed, it waits again."""

    async def script(stage: Stage) -> None:
        assert stage.state() is State.WAITING
        stage.pool.drain("gpu0")
        await settle()
        assert stage.state() is State.STOPPED
        assert stage.pool.outlook() is Outlook.NOBODY
        stage.pool.resume()
        await settle()
        assert stage.state() is State.WAITING
        stage.pool.restart("gpu0")
        await settle()
        assert stage.state() is State.WAITING
        stage.sight = Gpus((gpu(),))
        assert await stage.after(31) is State.STARTING

    play(script, seats=[gpu_seat()], gpus=[])


def seating(section: WorkersSection | None = None) -> Seating:
    return Seating("cuda", section or WorkersSection(), environ={}, cores=8)


def test_gpus_that_appear_late_get_workers() -> None:
    """At boot nobody is there; as the driver comes up, worker after worker is."""
    late = seating()
    absent = Gpus((), "no NVIDIA driver answers", may_come=True)

    async def script(stage: Stage) -> None:
        assert [(status.name, status.state) for status in stage.pool.status()] == [("gpu0", State.WAITING)]
        assert stage.pool.outlook() is Outlook.LOADING
        assert stage.status.waits_for == "GPU 0 is not there (no NVIDIA driver answers); found: none"
        stage.sight = Gpus((gpu(1),))
        await stage.after(31)
        assert [(status.name, status.state) for status in stage.pool.status()] == [("gpu1", State.STARTING)]
        stage.child.load()
        stage.sight = Gpus((gpu(0), gpu(1)))
        await stage.after(61)
        assert [status.name for status in stage.pool.status()] == ["gpu0", "gpu1"]
        assert stage.state() is State.STARTING

    play(script, seats=late.settle(absent), gpus=absent, seats_after=late.settle, hang_timeout=1000)


def test_another_gpu_in_the_place_of_a_lost_one() -> None:
    """The worker that waited for the lost one goes, and the new one's begins under the same name with a new number."""

    async def script(stage: Stage) -> None:
        await stage.get_ready()
        stage.sight = Gpus(())
        stage.child.exit(4)
        assert await stage.after(61) is State.WAITING
        stage.sight = Gpus((msgspec.structs.replace(gpu(), uuid="GPU-new"),))
        assert await stage.after(31) is State.STARTING
        assert (stage.status.name, stage.status.gpu, stage.status.life) == ("gpu0", "GPU-new", 2)
        assert len(stage.pool.status()) == 1

    swapped = seating()
    seats = swapped.settle(Gpus((gpu(),)))
    play(script, seats=seats, gpus=[gpu()], seats_after=swapped.settle)


def test_seats_that_make_no_sense_change_nothing() -> None:
    """A look that the settings cannot be matched with is logged, and who serves goes on."""

    def refuse(gpus: Gpus) -> tuple[Seat, ...]:
        raise ConfigError("workers.gpus: 'GPU-0' is the beginning of several")

    async def script(stage: Stage) -> None:
        await stage.get_ready()
        stage.pool._watch.ring()  # type: ignore[union-attr]
        assert await stage.after(1) is State.READY

    play(script, seats=[gpu_seat()], gpus=[gpu()], seats_after=refuse)


def test_a_seat_that_is_given_up_drains() -> None:
    """Whoever serves on a seat that is not wanted any more finishes first, and the others do not notice."""

    async def script(stage: Stage) -> None:
        for child in stage.nursery.children:
            child.load()
        await settle()
        stage.pool.take_seats([gpu_seat(1)])
        await settle()
        assert [status.name for status in stage.pool.status()] == ["gpu1"]
        assert stage.listener.events[-1] == "leaving gpu0.1"
        stage.nursery.children[0].exit(0)
        await settle()
        assert stage.listener.events[-1] == "gone gpu0.1"
        assert stage.pool._former == []

    play(script, seats=[gpu_seat(0), gpu_seat(1)], gpus=[gpu(0), gpu(1)])
