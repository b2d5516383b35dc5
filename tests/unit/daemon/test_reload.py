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
    """A reloader, and the sources it reads: what `source` returns or raises."""

    def __init__(self, **values: Any) -> None:
        self.current = Current(loaded(**values).config)
        self.source: Callable[[], Loaded] = lambda: loaded(**values)
        self.followed: list[Config] = []
        self.reloader = Reloader(
            self.current,
            load=self._load,
            notifier=Notifier({}),
            followers=[self.followed.append],
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


def test_live_keys_at_once() -> None:
    """A live key is in force as soon as the reload ends, and followers are told once."""
    house = House()
    outcome = house.reload(dispatch__max_waiting=5, logging__level="debug")
    assert outcome.ok
    assert names(outcome.applied) == ["dispatch.max_waiting", "logging.level"]
    assert house.current.config.dispatch.max_waiting == 5
    assert house.followed == [house.current.config]
    assert outcome.words == "config reloaded, applied: dispatch.max_waiting, logging.level"


def test_other_keys_wait() -> None:
    """Keys that need new workers or a new daemon are not in force and stay pending until they are taken back."""
    house = House()
    outcome = house.reload(server__port=1, engine__max_sequences=2, dispatch__max_waiting=5)
    assert names(outcome.pending) == ["server.port", "engine.max_sequences"]
    assert (house.current.config.server.port, house.current.config.engine.max_sequences) == (4363, 64)
    again = house.reload(server__port=1, dispatch__max_waiting=5)
    assert (names(again.applied), names(again.pending)) == ([], ["server.port"])
    assert again.words == "config reloaded, applied: nothing, waiting for a restart: server.port"
    assert house.reload(dispatch__max_waiting=5).words == "config unchanged"


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
