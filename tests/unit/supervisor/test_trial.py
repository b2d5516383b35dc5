"""New settings, which one worker tries before all have them."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from gemmad.generation import EngineSettings
from gemmad.protocol.messages import EXIT_SETTINGS, Configure, Dying
from gemmad.supervisor.gpus import Gpus
from gemmad.supervisor.lifecycle import State
from gemmad.supervisor.listener import Outlook
from tests.fakes.child import ScriptedChild
from tests.fakes.clock import settle
from tests.unit.supervisor.stage import Stage, gpu, gpu_seat, play

CALM = {"hang_timeout": 1e9}
"""Nobody sends heartbeats."""
NEW = EngineSettings(checkpoint="one", max_sequences=7)
HOURS = 7200.0


class Endings:
    """How trials of NEW ended; good settings are put in force, as the daemon does."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.said: list[str | None] = []

    def __call__(self, reason: str | None) -> None:
        self.said.append(reason)
        if reason is None:
            self.stage.settings = NEW


async def try_new(stage: Stage, settings: EngineSettings = NEW) -> Endings:
    endings = Endings(stage)
    stage.pool.try_settings(lambda seat: settings, ended=endings)
    await settle()
    return endings


async def all_ready(stage: Stage) -> None:
    for child in stage.nursery.children:
        child.load()
    await settle()


def built(child: ScriptedChild) -> int:
    """The max_sequences that it was told."""
    return next(message.settings.max_sequences for message in child.heard if isinstance(message, Configure))


def refuse(child: ScriptedChild) -> None:
    """It cannot work with its settings, says so and goes."""
    child.say(Dying(EXIT_SETTINGS, "kv_bytes is too small"))
    child.exit(EXIT_SETTINGS)


def test_one_is_ready_before_the_others_begin() -> None:
    """The first gets ready beside the old one, which serves on; then the others follow one by one."""

    async def script(stage: Stage) -> None:
        await all_ready(stage)
        endings = await try_new(stage)
        assert [built(child) for child in stage.nursery.children] == [64, 64, 64, 7]
        assert [status.state for status in stage.pool.status()] == [State.READY] * 3
        assert [status.renewing for status in stage.pool.status()] == [True, False, False]
        await stage.after(100)
        assert (endings.said, len(stage.nursery.children)) == ([], 4)
        for number in range(3):
            stage.child.load()
            await settle()
            assert endings.said == [None]
            stage.nursery.children[number].exit(0)
            await settle()
        assert [status.life for status in stage.pool.status()] == [2, 2, 2]
        assert [built(child) for child in stage.nursery.children[3:]] == [7, 7, 7]
        await stage.after(HOURS)
        assert len(stage.nursery.children) == 6
        assert stage.listener.outlooks == [Outlook.LOADING, Outlook.SERVING]

    play(script, seats=3, **CALM)


@pytest.mark.parametrize("fall", [refuse, lambda child: child.exit(1)], ids=["refused", "crashed"])
def test_one_that_does_not_get_ready_beside(fall: Callable[[ScriptedChild], None]) -> None:
    """It goes, the old ones serve on as if nothing had been, and why is told."""

    async def script(stage: Stage) -> None:
        await all_ready(stage)
        endings = await try_new(stage)
        fall(stage.child)
        await settle()
        assert len(endings.said) == 1
        assert endings.said[0] is not None
        assert endings.said[0].startswith("worker cpu0 did not get ready with it: ")
        assert stage.status.last_recycle is not None
        assert stage.status.last_recycle.startswith("failed: ")
        await stage.after(HOURS)
        assert [status.life for status in stage.pool.status()] == [1, 1]
        assert [status.faults for status in stage.pool.status()] == [0, 0]
        assert len(stage.nursery.children) == 3
        assert stage.listener.outlooks == [Outlook.LOADING, Outlook.SERVING]

    play(script, seats=2, **CALM)


@pytest.mark.parametrize("fall", [refuse, lambda child: child.exit(1)], ids=["refused", "crashed"])
def test_without_room_it_comes_back_with_the_old_settings(fall: Callable[[ScriptedChild], None]) -> None:
    """Where the host does not hold two, the worker makes way; if the next life fails, the one after is as before."""

    async def script(stage: Stage) -> None:
        stage.available = -1
        await all_ready(stage)
        endings = await try_new(stage)
        assert stage.state() is State.DRAINING
        assert stage.pool.outlook() is Outlook.RETURNING
        stage.child.exit(0)
        await settle()
        assert (built(stage.child), stage.state()) == (7, State.STARTING)
        fall(stage.child)
        await settle()
        assert len(endings.said) == 1
        assert (built(stage.child), stage.state(), stage.status.faults) == (64, State.STARTING, 0)
        assert stage.pool.outlook() is Outlook.RETURNING
        await stage.get_ready()
        await stage.after(HOURS)
        assert len(stage.nursery.children) == 3
        outlooks = [Outlook.LOADING, Outlook.SERVING, Outlook.RETURNING, Outlook.SERVING]
        assert stage.listener.outlooks == outlooks

    play(script, **CALM)


def test_without_room_and_good() -> None:
    """The worker makes way, and its next life with the new settings is the proof for the others."""

    async def script(stage: Stage) -> None:
        stage.available = -1
        await all_ready(stage)
        endings = await try_new(stage)
        first, second = stage.nursery.children
        first.exit(0)
        await settle()
        assert endings.said == []
        stage.child.load()
        await settle()
        assert endings.said == [None]
        second.exit(0)
        await settle()
        stage.child.load()
        await settle()
        assert [(status.life, status.state) for status in stage.pool.status()] == [(2, State.READY)] * 2
        assert Outlook.RETURNING not in stage.listener.outlooks

    play(script, seats=2, **CALM)


def test_settings_that_mend_workers_that_cannot_work() -> None:
    """When nobody serves because the settings are wrong, one begins with the new ones at once, then all."""

    async def script(stage: Stage) -> None:
        for child in list(stage.nursery.children):
            refuse(child)
        await settle()
        assert [status.state for status in stage.pool.status()] == [State.FAILED] * 2
        endings = await try_new(stage)
        assert [built(child) for child in stage.nursery.children] == [64, 64, 7]
        stage.child.load()
        await settle()
        assert endings.said == [None]
        assert [built(child) for child in stage.nursery.children] == [64, 64, 7, 7]
        await all_ready(stage)

    play(script, seats=2, **CALM)


def test_a_worker_that_still_loads_begins_anew() -> None:
    """While nobody has served yet, the one that loads is stopped for the settings that are wanted now."""

    async def script(stage: Stage) -> None:
        endings = await try_new(stage)
        assert stage.state() is State.STOPPING
        stage.child.exit(0)
        await settle()
        assert built(stage.child) == 7
        stage.child.load()
        await settle()
        assert endings.said == [None]

    play(script, **CALM)


def test_the_old_one_dies_while_the_next_gets_ready() -> None:
    """Then the one that tries is the place's; if it falls, the life after has the old settings."""

    async def script(stage: Stage) -> None:
        await all_ready(stage)
        endings = await try_new(stage)
        stage.nursery.children[0].exit(1)
        await settle()
        assert (stage.state(), len(stage.nursery.children)) == (State.STARTING, 2)
        refuse(stage.child)
        await settle()
        assert len(endings.said) == 1
        assert (built(stage.child), stage.state()) == (64, State.STARTING)
        await stage.get_ready()

    play(script, **CALM)


@pytest.mark.parametrize("available", [None, -1], ids=["beside", "in its place"])
def test_other_settings_before_it_came_to_that(available: int | None) -> None:
    """Who tries the former ones goes without a word, and the latter are tried."""

    async def script(stage: Stage) -> None:
        stage.available = available
        await all_ready(stage)
        former = await try_new(stage, EngineSettings(checkpoint="one", max_sequences=5))
        if available is not None:
            stage.child.exit(0)
            await settle()
        assert built(stage.child) == 5
        loading = stage.child
        latter = await try_new(stage)
        loading.exit(0)
        await settle()
        assert built(stage.child) == 7
        stage.child.load()
        await settle()
        assert (former.said, latter.said) == ([], [None])

    play(script, **CALM)


def test_who_wants_the_old_ones_again_ends_the_trial() -> None:
    """Settings like those in force need no trial; what was being tried goes."""

    async def script(stage: Stage) -> None:
        await all_ready(stage)
        await try_new(stage)
        endings = Endings(stage)
        stage.pool.try_settings(lambda seat: EngineSettings(checkpoint="one"), ended=endings.said.append)
        await settle()
        assert endings.said == [None]
        stage.child.exit(0)
        await stage.after(HOURS)
        assert (stage.status.life, len(stage.nursery.children)) == (1, 2)

    play(script, **CALM)


def test_drained_while_it_tries() -> None:
    """A worker that an operator drains cannot prove anything; the old settings stay."""

    async def script(stage: Stage) -> None:
        await all_ready(stage)
        endings = await try_new(stage)
        stage.pool.drain("cpu0")
        await settle()
        assert endings.said == ["worker cpu0 did not get ready with it: it was drained meanwhile"]

    play(script, **CALM)


def test_nobody_is_there_to_try() -> None:
    """With every worker drained the settings are in force for those that are resumed."""

    async def script(stage: Stage) -> None:
        await all_ready(stage)
        stage.pool.drain()
        stage.child.exit(0)
        await settle()
        endings = await try_new(stage)
        assert endings.said == [None]
        stage.pool.resume()
        await settle()
        assert built(stage.child) == 7
        await stage.get_ready()

    play(script, **CALM)


def test_a_follower_that_fails_keeps_its_place() -> None:
    """One of the others whose next life does not get ready serves on with the old settings, and is tried again."""

    async def script(stage: Stage) -> None:
        await all_ready(stage)
        await try_new(stage)
        stage.child.load()
        await settle()
        stage.nursery.children[0].exit(0)
        await settle()
        stage.child.exit(1)
        await settle()
        assert [(status.life, status.state) for status in stage.pool.status()] == [(2, State.READY), (1, State.READY)]
        await stage.after(61)
        assert len(stage.nursery.children) == 5
        stage.child.load()
        await settle()
        assert [status.life for status in stage.pool.status()] == [2, 3]

    play(script, seats=2, **CALM)


def test_on_a_gpu_that_holds_one() -> None:
    """There the worker makes way, and the memory is waited for in between."""

    async def script(stage: Stage) -> None:
        await stage.get_ready()
        await stage.after(5)
        stage.sight = Gpus((gpu(free=5),))
        endings = await try_new(stage)
        assert stage.state() is State.DRAINING
        stage.child.exit(0)
        assert await stage.after(1) is State.WAITING
        stage.sight = Gpus((gpu(),))
        await stage.after(1)
        assert built(stage.child) == 7
        stage.child.load()
        await settle()
        assert endings.said == [None]

    play(script, seats=[gpu_seat()], gpus=[gpu()], **CALM)
