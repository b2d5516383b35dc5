"""When there is a zygote and when there is none; its processes are played."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, cast

from gemmad.supervisor.brood import Brood
from gemmad.supervisor.child import Child
from gemmad.supervisor.installed import Installed
from gemmad.supervisor.spare import Spare
from gemmad.supervisor.zygote import HEALTHY_SECONDS, LOOK_SECONDS, PAUSE_SECONDS, Zygote
from tests.fakes.clock import run_virtually, settle

ENV = {"PATH": "/bin", "CUDA_VISIBLE_DEVICES": "GPU-1", "OMP_NUM_THREADS": "8"}


class PlayedBrood:
    """One that has no spares and ends when told."""

    def __init__(self, *, number: int, env: Mapping[str, str], gpu: bool, on_end: Callable[[str], None]) -> None:
        self.number = number
        self.env = env
        self.gpu = gpu
        self.pid = number
        self.spares = 0
        self.unfit = False
        self.closed = False
        self.asked = 0
        self._on_end = on_end

    def take(self) -> Spare | None:
        self.asked += 1
        return None

    def end(self, reason: str) -> None:
        self.closed = True
        self._on_end(reason)

    def close(self) -> None:
        self.closed = True


class Stage:
    """A Zygote among things that are played."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.clock = clock
        self.spawned = 0
        self.broods: list[PlayedBrood] = []
        self.missing = False
        self.wanted = True
        self.code = Installed(newest=1, modules=1, beside=1)
        self.zygote = Zygote(
            self._spawn,
            wanted=lambda: self.wanted,
            hatch=self._hatch,
            installed=lambda: self.code,
            clock=clock,
        )

    def _hatch(self, **options: Any) -> Brood:
        if self.missing:
            raise FileNotFoundError(2, "No such file or directory")
        self.broods.append(PlayedBrood(**options))
        return cast("Brood", self.broods[-1])

    def _spawn(self, **_: Any) -> Child:
        self.spawned += 1
        return cast("Child", None)

    def start(self, **env: str) -> None:
        """A worker."""
        self.zygote(env=ENV | env, socket_fd=0, on_line=lambda line: None, on_exit=lambda code: None)

    async def pause(self, seconds: float) -> None:
        """Time goes by."""
        await asyncio.sleep(seconds)
        await settle()


def play(script: Callable[[Stage], Awaitable[None]]) -> None:
    """Run it while the zygote is kept."""

    async def main(clock: Callable[[], float]) -> None:
        stage = Stage(clock)
        async with asyncio.TaskGroup() as group:
            keeping = group.create_task(stage.zygote.run())
            await script(stage)
            keeping.cancel()
        assert all(brood.closed for brood in stage.broods)
        assert stage.zygote.pid is None

    run_virtually(main)


def test_there_is_none_until_it_may_begin() -> None:
    """The first worker starts alone; then a zygote is made to its measure, but without its GPU."""

    async def script(stage: Stage) -> None:
        stage.start()
        await stage.pause(LOOK_SECONDS)
        assert stage.broods == []
        assert stage.zygote.spares == 0
        stage.zygote.begin()
        await settle()
        (brood,) = stage.broods
        assert brood.env == ENV | {"CUDA_VISIBLE_DEVICES": ""}
        assert brood.gpu
        assert stage.zygote.pid == brood.pid

    play(script)


def test_a_worker_without_a_gpu_needs_a_zygote_without() -> None:
    """It imports nothing that only GPUs need."""

    async def script(stage: Stage) -> None:
        stage.start(CUDA_VISIBLE_DEVICES="")
        stage.zygote.begin()
        await settle()
        assert not stage.broods[0].gpu

    play(script)


def test_without_spares_workers_are_spawned() -> None:
    """A zygote that has none at hand is asked and passed over, and one of another kind is not even asked."""

    async def script(stage: Stage) -> None:
        stage.start()
        stage.zygote.begin()
        await settle()
        stage.start(CUDA_VISIBLE_DEVICES="GPU-2", OMP_NUM_THREADS="1")
        assert stage.broods[0].asked == 1
        stage.start(LD_PRELOAD="/lib/other.so")
        assert stage.broods[0].asked == 1
        assert stage.spawned == 3

    play(script)


def test_pauses_grow_while_zygotes_die_young() -> None:
    """Each pause is twice the one before, up to a longest; one that lived long enough starts it over."""

    async def script(stage: Stage) -> None:
        stage.start()
        stage.zygote.begin()
        await settle()
        first, longest = PAUSE_SECONDS
        pause = first
        while pause < longest:
            stage.broods[-1].end("it died")
            count = len(stage.broods)
            await stage.pause(pause - 0.1)
            assert len(stage.broods) == count
            await stage.pause(0.2)
            assert len(stage.broods) == count + 1
            pause = min(2 * pause, longest)
        await stage.pause(HEALTHY_SECONDS)
        stage.broods[-1].end("it died")
        count = len(stage.broods)
        await stage.pause(first + 0.1)
        assert len(stage.broods) == count + 1

    play(script)


def test_an_unfit_zygote_is_not_tried_again_until_the_code_changes() -> None:
    """The same imports would end the same way."""

    async def script(stage: Stage) -> None:
        stage.start()
        stage.zygote.begin()
        await settle()
        stage.broods[0].unfit = True
        stage.broods[0].end("it has threads")
        await stage.pause(3600)
        assert len(stage.broods) == 1
        stage.code = Installed(newest=2, modules=1, beside=1)
        await stage.pause(LOOK_SECONDS)
        assert len(stage.broods) == 2

    play(script)


def test_code_that_changed_is_imported_anew() -> None:
    """At a worker's start the old zygote is not asked, and without one it is replaced before long."""

    async def script(stage: Stage) -> None:
        stage.start()
        stage.zygote.begin()
        await settle()
        stage.code = Installed(newest=2, modules=1, beside=1)
        stage.start()
        assert (stage.broods[0].asked, stage.broods[0].closed) == (0, True)
        await settle()
        assert len(stage.broods) == 2
        stage.code = Installed(newest=2, modules=1, beside=2)
        await stage.pause(LOOK_SECONDS)
        assert stage.broods[1].closed
        assert len(stage.broods) == 3

    play(script)


def test_the_setting_takes_effect_while_it_runs() -> None:
    """Switched off, the zygote goes; switched on, one comes."""

    async def script(stage: Stage) -> None:
        stage.wanted = False
        stage.start()
        stage.zygote.begin()
        await stage.pause(LOOK_SECONDS)
        assert stage.broods == []
        stage.wanted = True
        await stage.pause(LOOK_SECONDS)
        assert len(stage.broods) == 1
        stage.wanted = False
        await stage.pause(LOOK_SECONDS)
        assert stage.broods[0].closed
        assert stage.zygote.pid is None

    play(script)


def test_a_program_that_cannot_be_started_is_tried_again() -> None:
    """Workers are spawned meanwhile."""

    async def script(stage: Stage) -> None:
        stage.missing = True
        stage.start()
        stage.zygote.begin()
        await settle()
        stage.start()
        stage.missing = False
        await stage.pause(PAUSE_SECONDS[0] + 0.1)
        assert len(stage.broods) == 1
        assert stage.spawned == 2

    play(script)
