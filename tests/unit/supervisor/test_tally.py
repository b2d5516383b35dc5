"""What the lives on a seat add up to."""

from __future__ import annotations

from functools import partial

import pytest

from gemmad.config.schema import RecycleSection
from gemmad.generation import EngineLoad, EngineSettings
from gemmad.protocol.messages import Drain, Heartbeat
from gemmad.supervisor.ending import Cause
from gemmad.supervisor.gpus import Gpus
from gemmad.supervisor.lifecycle import State
from gemmad.supervisor.recycle import Why
from gemmad.supervisor.seat import Seat
from gemmad.supervisor.tally import Tally, Work, WorkerTotals, work_of
from tests.fakes.clock import settle
from tests.unit.supervisor.stage import GIB, HELLO, Stage, gpu, gpu_seat, play

CALM = {"hang_timeout": 1e9}
"""Nobody sends heartbeats unless the test says so."""


def load(count: int, **fields: int) -> Heartbeat:
    """One that has done `count` of everything that is counted."""
    return Heartbeat(
        EngineLoad(
            steps=count,
            generated_tokens=count,
            prefilled_tokens=count,
            prompt_tokens=count,
            cached_tokens=count,
            preemptions=count,
            **fields,
        )
    )


def sums(totals: WorkerTotals) -> set[int]:
    """What was counted of everything that `load` counts."""
    return {
        totals.steps,
        totals.generated_tokens,
        totals.prefilled_tokens,
        totals.prompt_tokens,
        totals.cached_tokens,
        totals.preemptions,
    }


def _same(settings: EngineSettings, seat: Seat) -> EngineSettings:
    del seat
    return settings


def test_lives_add_up() -> None:
    """Those that are over and those that go on count, and an end changes no sum."""
    tally, done = Tally(), {"first": Work(steps=2), "second": Work(steps=3)}

    def first() -> Work:
        return done["first"]

    def second() -> Work:
        return done["second"]

    assert [tally.next_number(), tally.next_number()] == [1, 2]
    tally.begin(first)
    tally.begin(second)
    assert tally.totals().steps == 5
    tally.end(first)
    assert (tally.totals().steps, tally.totals().lives) == (5, 2)
    done["second"] = Work(steps=10)
    assert tally.totals().steps == 12


def test_every_word_has_a_count() -> None:
    """Causes and triggers that never came are told as 0, so that their first time is an increase."""
    tally = Tally()
    tally.note_restart(Cause.HANG)
    tally.note_recycle(Why.TIME, worked=True)
    tally.note_recycle(Why.DRIFT, worked=False)
    told = tally.totals()
    assert set(told.restarts) == {cause.value for cause in Cause}
    assert {word for word, count in told.restarts.items() if count} == {"hang"}
    assert (told.recycles["time"], told.failed_recycles["time"]) == (1, 0)
    assert (told.recycles["drift"], told.failed_recycles["drift"]) == (0, 1)
    assert set(told.recycles) == set(told.failed_recycles) == {why.name.lower() for why in Why}


def test_a_life_that_told_nothing() -> None:
    """Before the first heartbeat there is no work but the requests that it was handed."""
    assert work_of(None, requests=2) == Work(requests=2)


def test_a_crash_takes_nothing_along() -> None:
    """Sums go on over a crash and the life after it; the cause is counted."""

    async def script(stage: Stage) -> None:
        await stage.get_ready()
        stage.child.say(load(7))
        await settle()
        assert sums(stage.status.totals) == {7}
        stage.child.exit(1)
        await settle()
        assert (stage.state(), stage.status.load) == (State.BACKOFF, None)
        assert sums(stage.status.totals) == {7}
        await stage.after(60)
        await stage.get_ready()
        assert sums(stage.status.totals) == {7}
        stage.child.say(load(2))
        await settle()
        assert sums(stage.status.totals) == {9}
        assert (stage.status.totals.lives, stage.status.totals.restarts["crash"]) == (2, 1)

    play(script, **CALM)


@pytest.mark.parametrize(
    ("served", "exit_code", "cause"),
    [
        (False, 1, "load_failed"),
        (True, 4, "device_lost"),
        (False, 3, "settings"),
        (True, 0, "exit"),
        (True, -9, "killed"),
    ],
)
def test_restarts_by_cause(served: bool, exit_code: int, cause: str) -> None:
    """Each end that is a fault is counted once, by its cause."""

    async def script(stage: Stage) -> None:
        if served:
            await stage.get_ready()
        stage.child.exit(exit_code)
        await settle()
        assert {word: count for word, count in stage.status.totals.restarts.items() if count} == {cause: 1}

    play(script, **CALM)


def test_silence_is_a_hang() -> None:
    """One that was ready and then silent is counted as hung, not as killed."""

    async def script(stage: Stage) -> None:
        await stage.get_ready()
        await stage.after(31.2)
        assert stage.state() is State.BACKOFF
        assert {word: count for word, count in stage.status.totals.restarts.items() if count} == {"hang": 1}

    play(script, hang_timeout=30.0)


def test_a_renewal_is_no_restart() -> None:
    """Both lives count while they overlap and afterwards; the renewal is counted by its trigger."""

    async def script(stage: Stage) -> None:
        await stage.get_ready()
        old = stage.child
        old.say(load(5))
        stage.pool.recycle("cpu0")
        await settle()
        stage.child.load()
        await settle()
        stage.child.say(load(1))
        old.say(load(6))
        await settle()
        assert stage.status.life == 2
        assert sums(stage.status.totals) == {7}
        old.exit(0)
        await settle()
        told = stage.status.totals
        assert sums(told) == {7}
        assert sum(told.restarts.values()) == 0
        assert {word: count for word, count in told.recycles.items() if count} == {"asked": 1}
        assert sum(told.failed_recycles.values()) == 0

    play(script, **CALM)


def test_a_renewal_that_fails() -> None:
    """The successor's end is counted by its cause, and the renewal as one that failed."""

    async def script(stage: Stage) -> None:
        await stage.get_ready()
        stage.pool.recycle()
        await settle()
        stage.child.exit(3)
        await stage.after(10)
        told = stage.status.totals
        assert (told.recycles["asked"], told.failed_recycles["asked"], told.restarts["settings"]) == (0, 1, 1)

    play(script, **CALM)


def test_a_renewal_in_place_that_fails() -> None:
    """Where the old one made way first, a next life that falls is a failed renewal too."""

    async def script(stage: Stage) -> None:
        stage.available = 0
        await stage.get_ready()
        stage.child.say(load(1, host_rss_bytes=GIB))
        await settle()
        stage.pool.recycle()
        await settle()
        assert stage.child.heard[-1] == Drain()
        stage.child.exit(0)
        await settle()
        stage.child.exit(1)
        await stage.after(0.1)
        told = stage.status.totals
        assert (told.recycles["asked"], told.failed_recycles["asked"]) == (0, 1)

    play(script, **CALM)


def test_a_drain_during_a_renewal() -> None:
    """Whoever is told to stay away neither was renewed nor failed to be."""

    async def script(stage: Stage) -> None:
        await stage.get_ready()
        stage.pool.recycle()
        await settle()
        stage.pool.drain()
        for child in stage.nursery.children:
            child.exit(0)
        await stage.after(10)
        told = stage.status.totals
        assert sum(told.recycles.values()) == sum(told.failed_recycles.values()) == 0

    play(script, **CALM)


def test_settings_that_are_tried() -> None:
    """The worker that tries new settings is renewed for them, whether they work or not."""

    async def script(stage: Stage) -> None:
        await stage.get_ready()
        for number, worked in enumerate([False, True]):
            settings = EngineSettings(checkpoint=f"new {number}")
            stage.pool.try_settings(partial(_same, settings), ended=lambda reason: None)
            await settle()
            if worked:
                stage.child.load()
            else:
                stage.child.exit(3)
            await stage.after(10)
        told = stage.status.totals
        assert (told.recycles["settings"], told.failed_recycles["settings"]) == (1, 1)

    play(script, **CALM)


def test_a_gpu_that_comes_back() -> None:
    """Sums and numbers of lives go on where a seat was taken away and is there again."""

    async def script(stage: Stage) -> None:
        await stage.get_ready()
        stage.child.say(load(3))
        await settle()
        stage.pool.take_seats([])
        assert stage.pool.status() == ()
        stage.child.exit(0)
        await settle()
        stage.pool.take_seats([gpu_seat()])
        stage.pool.reconcile()
        await stage.after(5)
        assert stage.status.life == 2
        assert sums(stage.status.totals) == {3}

    play(script, seats=[gpu_seat()], gpus=Gpus((gpu(),)), **CALM)


def test_growth_above_the_baseline() -> None:
    """What a life has reserved beyond its first heartbeat after it was ready; a CPU has no such thing."""

    async def script(stage: Stage) -> None:
        for child in stage.nursery.children:
            child.say(HELLO)
        await stage.after(1)
        for child in stage.nursery.children:
            child.load()
            await settle()
        assert [status.above_baseline_bytes for status in stage.pool.status()] == [None, None]
        for bytes_, expected in ((5 * GIB, 0), (7 * GIB, 2 * GIB)):
            for child in stage.nursery.children:
                child.say(load(1, device_bytes=bytes_))
            await settle()
            assert {status.name: status.above_baseline_bytes for status in stage.pool.status()} == {
                "gpu0": expected,
                "cpu0": None,
            }

    seats = [gpu_seat(), Seat("cpu0", "cpu", {})]
    play(script, seats=seats, gpus=[gpu()], recycle=RecycleSection(vram_drift=None), **CALM)
