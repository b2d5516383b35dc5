from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any

from gemmad.config.load import Loaded, load_config
from gemmad.config.schema import Config
from gemmad.daemon.notify import Notifier
from gemmad.daemon.reload import Current, Reloader, ReloadOutcome
from gemmad.errors import ConfigError


def loaded(**values: Any) -> Loaded:
    overrides = {name.replace("__", "."): value for name, value in values.items()}
    return load_config(None, env={"GEMMAD_CONFIG_DIR": "/nonexistent"}, overrides=overrides)


class House:
    """A reloader, and the sources it reads: what `source` returns or raises; `trials` is what workers are to try."""

    def __init__(self, **values: Any) -> None:
        self.current = Current(loaded(**values).config)
        self.source: Callable[[], Loaded] = lambda: loaded(**values)
        self.followed: list[Config] = []
        self.trials: list[tuple[Config, Callable[[str | None], None]]] = []
        self.reloader = Reloader(
            self.current,
            load=self._load,
            notifier=Notifier({}),
            followers=[self.followed.append],
            roll=lambda config, ended: self.trials.append((config, ended)),
            clock=lambda: 12.0,
        )

    def reload(self, **values: Any) -> ReloadOutcome:
        return self.reload_from(lambda: loaded(**values))

    def reload_from(self, source: Callable[[], Loaded]) -> ReloadOutcome:
        self.source = source
        return asyncio.run(self.reloader.reload())

    def _load(self) -> Loaded:
        return self.source()


def names(changes: Any) -> list[str]:
    return [change.key for change in changes]


def test_a_plan_changes_nothing() -> None:
    """A plan tells what a reload would change or refuse, and nothing is in force, told or remembered by it."""
    house = House()
    house.source = lambda: loaded(dispatch__max_waiting=5, server__port=1, engine__max_sequences=2)
    plan = asyncio.run(house.reloader.plan())
    assert (names(plan.applied), names(plan.pending)) == (["dispatch.max_waiting"], ["server.port"])
    assert (names(plan.rolling), house.trials) == (["engine.max_sequences"], [])
    assert house.current.config == loaded().config
    assert (house.followed, house.reloader.outcome) == ([], None)
    house.source = lambda: loaded(dispatch__max_waiting=-5)
    assert not asyncio.run(house.reloader.plan()).ok


def test_a_plan_asks_who_may_refuse() -> None:
    """A plan is refused where the reload would be, for what is wrong outside of the file too."""

    def check(config: Config) -> None:
        raise ConfigError(f"port {config.server.port} needs a key")

    house = House()
    reloader = Reloader(house.current, load=lambda: loaded(server__port=7), notifier=Notifier({}), check=check)
    assert asyncio.run(reloader.plan()).errors == ("port 7 needs a key",)


def test_live_keys_at_once() -> None:
    """A live key is in force as soon as the reload ends, and followers are told once."""
    house = House()
    outcome = house.reload(dispatch__max_waiting=5, logging__level="debug")
    assert outcome.ok
    assert names(outcome.applied) == ["dispatch.max_waiting", "logging.level"]
    assert house.current.config.dispatch.max_waiting == 5
    assert house.followed == [house.current.config]
    assert outcome.words == "config reloaded, applied: dispatch.max_waiting, logging.level"


def test_restart_keys_wait() -> None:
    """Keys that need a new daemon are not in force and stay pending until they are taken back."""
    house = House()
    outcome = house.reload(server__port=1, dispatch__max_waiting=5)
    assert (names(outcome.pending), outcome.rolling) == (["server.port"], ())
    assert house.current.config.server.port == 4363
    again = house.reload(server__port=1, dispatch__max_waiting=5)
    assert (names(again.applied), names(again.pending)) == ([], ["server.port"])
    assert again.words == "config reloaded, applied: nothing, waiting for a restart: server.port"
    assert house.reload(dispatch__max_waiting=5).words == "config unchanged"
    assert house.trials == []


def test_recycle_keys_are_tried_first() -> None:
    """A recycle key is in force once a worker is ready with it, and the outcome of the reload is completed then."""
    house = House()
    outcome = house.reload(engine__max_sequences=2, dispatch__max_waiting=5)
    assert (names(outcome.applied), names(outcome.rolling)) == (["dispatch.max_waiting"], ["engine.max_sequences"])
    assert outcome.words.endswith("tried by a worker: engine.max_sequences")
    ((config, ended),) = house.trials
    assert (config.engine.max_sequences, house.current.config.engine.max_sequences) == (2, 64)
    ended(None)
    assert house.current.config.engine.max_sequences == 2
    assert house.reloader.outcome is not None
    assert names(house.reloader.outcome.applied) == ["dispatch.max_waiting", "engine.max_sequences"]
    assert house.reloader.outcome.rolling == ()
    assert house.reload(engine__max_sequences=2, dispatch__max_waiting=5).words == "config unchanged"
    assert len(house.trials) == 1


def test_what_no_worker_gets_ready_with_is_taken_back() -> None:
    """The old value stays in force, the outcome says why, and live keys of the same edit stay applied."""
    house = House()
    house.reload(engine__max_sequences=2, dispatch__max_waiting=5)
    house.trials[0][1]("worker cpu0 did not get ready with it: no memory")
    outcome = house.reloader.outcome
    assert outcome is not None
    assert not outcome.ok
    why = "engine.max_sequences: taken back: worker cpu0 did not get ready with it: no memory"
    assert (outcome.errors, outcome.words) == ((why,), f"config refused: {why}")
    assert house.current.config == loaded(dispatch__max_waiting=5).config


def test_what_was_taken_back_is_not_tried_for_another_edit() -> None:
    """It stays refused while other keys are edited; an operator who insists, or another value, has it tried again."""
    house = House()
    house.reload(engine__max_sequences=2)
    house.trials[0][1]("why")
    outcome = house.reload(engine__max_sequences=2, dispatch__max_waiting=5)
    assert (outcome.ok, names(outcome.applied), len(house.trials)) == (False, ["dispatch.max_waiting"], 1)
    assert names(asyncio.run(house.reloader.reload(insist=True)).rolling) == ["engine.max_sequences"]
    house.trials[1][1]("why")
    told = house.reloader.reading()
    assert (told.is_good, told.reloaded_at, told.taken, told.refused, told.taken_back) == (False, 12.0, 2, 1, 2)
    assert house.reload(engine__max_sequences=3).ok
    assert house.reloader.reading().trying == 1
    assert house.trials[2][0].engine.max_sequences == 3
    assert house.reload().ok


def test_an_edit_during_a_trial() -> None:
    """Another key or a mistake lets the trial go on, another value begins a new one, and who takes the value back ends
    it; what a trial that was given up comes to does not matter."""
    house = House()
    house.reload(engine__max_sequences=2)
    assert names(house.reload(engine__max_sequences=2, dispatch__max_waiting=5).rolling) == ["engine.max_sequences"]

    def refused() -> Loaded:
        raise ConfigError("f:1: a: why")

    assert names(house.reload_from(refused).rolling) == ["engine.max_sequences"]
    assert len(house.trials) == 1
    house.reload(engine__max_sequences=3)
    house.trials[0][1](None)
    assert house.current.config.engine.max_sequences == 64
    assert house.reload().rolling == ()
    assert house.trials[2][0] == house.current.config
    house.trials[1][1](None)
    house.trials[2][1](None)
    assert house.current.config == loaded().config
    assert house.reloader.outcome is not None
    assert house.reloader.outcome.ok


def test_a_mistake_outlives_the_trial_before_it() -> None:
    """A trial that ends well does not hide that the file has become wrong meanwhile."""
    house = House()
    house.reload(engine__max_sequences=2)

    def refused() -> Loaded:
        raise ConfigError("f:1: a: why")

    house.reload_from(refused)
    house.trials[0][1](None)
    assert house.current.config.engine.max_sequences == 2
    assert house.reloader.outcome is not None
    assert house.reloader.outcome.errors == ("f:1: a: why",)


def test_a_bad_edit_changes_nothing() -> None:
    """A refused config leaves the running one and keeps every error; a good one clears them."""
    house = House(dispatch__max_waiting=5)
    before = house.current.config

    def refused() -> Loaded:
        raise ConfigError("f:1: a: why\nf:2: b: why")

    outcome = house.reload_from(refused)
    assert not outcome.ok
    assert outcome.errors == ("f:1: a: why", "f:2: b: why")
    assert outcome.words == "config refused: f:1: a: why (and 1 more)"
    assert house.current.config is before
    assert house.followed == []
    assert house.reloader.outcome is outcome
    assert house.reload(dispatch__max_waiting=6).ok


def test_our_own_fault_does_not_end_the_daemon() -> None:
    """An unforeseen exception is an outcome, and the next reload works."""
    house = House()

    def broken() -> Loaded:
        raise RuntimeError("surprise")

    assert "surprise" in house.reload_from(broken).words
    assert house.reload(dispatch__max_waiting=6).ok


def test_rings_merge_and_none_is_lost() -> None:
    """Many rings are one reload; a ring during a reload leads to one more."""

    async def scenario() -> int:
        house = House()
        loads = 0
        loop = asyncio.get_running_loop()

        def load() -> Loaded:
            nonlocal loads
            loads += 1
            if loads == 1:
                loop.call_soon_threadsafe(house.reloader.ring)
                loop.call_soon_threadsafe(house.reloader.ring)
            return loaded(dispatch__max_waiting=loads)

        house.source = load
        running = asyncio.create_task(house.reloader.run())
        for _ in range(10):
            house.reloader.ring()
        async with asyncio.timeout(10):
            while house.current.config.dispatch.max_waiting != 2:
                await asyncio.sleep(0.001)
        await asyncio.sleep(0.02)
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running
        return loads

    assert asyncio.run(scenario()) == 2
