"""A running daemon takes a new config: live keys at once, recycle keys once a worker has got ready with them, restart
keys are told and wait, a bad config changes nothing.

Trying recycle keys takes as long as a model loads, so a reload ends before: `ReloadOutcome.rolling` are those that are
being tried. How that ends becomes part of the same outcome. Keys that were taken back are not tried again because some
other key is edited, only when they are changed or when an operator insists.
"""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from gemmad import logs
from gemmad.config.document import without_secret
from gemmad.config.keys import Change, changes, with_changes, with_keys
from gemmad.config.load import Loaded
from gemmad.config.schema import Config
from gemmad.daemon.notify import Notifier
from gemmad.errors import ConfigError
from gemmad.metrics import ConfigReading

log = logs.get_logger(__name__)

Prepare = Callable[[Config], Awaitable[Callable[[], str | None]]]
"""Readies what a wanted config brings beside its settings, or raises ConfigError. What it returns is called once the
config is in force, and tells in a word what that changed."""


Roll = Callable[[Config, Callable[[str | None], None]], None]
"""Has a worker try this config, and calls back later: with None once it is ready, else with why it did not get ready.
Another call gives the one before up, whose callback is not called then."""


class Current:
    """The config in force. Objects that follow it are given `lambda: current.config.dispatch` and keep no section."""

    def __init__(self, config: Config) -> None:
        self.config = config


class ReloadOutcome(Struct, frozen=True):
    """How one reload ended."""

    at: float
    """Seconds since the epoch."""
    errors: tuple[str, ...] = ()
    """Why the config was refused, one line each; none when it was taken."""
    applied: tuple[Change, ...] = ()
    """In force now."""
    rolling: tuple[Change, ...] = ()
    """A worker tries them; in force once it is ready."""
    pending: tuple[Change, ...] = ()
    """Between what runs and what the sources say: in force once the daemon starts anew."""
    also: tuple[str, ...] = ()
    """What else is in force now."""

    @property
    def ok(self) -> bool:
        """Whether the config was taken."""
        return not self.errors

    @property
    def words(self) -> str:
        """One line for an operator."""
        if self.errors:
            more = f" (and {len(self.errors) - 1} more)" if len(self.errors) > 1 else ""
            return f"config refused: {self.errors[0]}{more}"
        applied = (*(change.key for change in self.applied), *self.also)
        if not applied and not self.rolling and not self.pending:
            return "config unchanged"
        words = f"config reloaded, applied: {', '.join(applied) or 'nothing'}"
        if self.rolling:
            words += f", tried by a worker: {_names(self.rolling)}"
        return f"{words}, waiting for a restart: {_names(self.pending)}" if self.pending else words


class Reloader:
    """The only writer of `current`.

    `load` reads the sources again and raises ConfigError. Each of `followers` is called with the running config after
    its live keys changed, for what must be told a new value rather than ask for it (the log's level). `prepare` may
    refuse a config that is right in itself, and `check` tells whether it would: both raise ConfigError. `roll` tries
    recycle keys; without it they are in force at once.
    """

    def __init__(
        self,
        current: Current,
        *,
        load: Callable[[], Loaded],
        notifier: Notifier,
        followers: Sequence[Callable[[Config], None]] = (),
        prepare: Prepare | None = None,
        check: Callable[[Config], None] | None = None,
        roll: Roll | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._current = current
        self._load = load
        self._notifier = notifier
        self._followers = tuple(followers)
        self._prepare = prepare
        self._check = check
        self._roll = roll
        self._clock = clock
        self._rolling: tuple[Change, ...] = ()
        self._refused: tuple[tuple[Change, ...], str] = (), ""
        """What was taken back, and why."""
        self._taken = self._failed = self._taken_back = 0
        self._bell = asyncio.Event()
        self._one_at_a_time = asyncio.Lock()
        self._outcome: ReloadOutcome | None = None

    @property
    def outcome(self) -> ReloadOutcome | None:
        """Of the last reload; None before the first."""
        return self._outcome

    @property
    def trying(self) -> tuple[Change, ...]:
        """What a worker tries now."""
        return self._rolling

    def reading(self) -> ConfigReading:
        """For the metrics."""
        last = self._outcome
        if last is None:
            return ConfigReading()
        return ConfigReading(
            is_good=last.ok,
            reloaded_at=last.at,
            taken=self._taken,
            refused=self._failed,
            taken_back=self._taken_back,
            trying=len(last.rolling),
            waiting=len(last.pending),
        )

    def ring(self) -> None:
        """Ask for a reload. Rings merge; one during a reload leads to another."""
        self._bell.set()

    async def run(self) -> None:
        """Reload at each ring, until cancelled."""
        while True:
            await self._bell.wait()
            self._bell.clear()
            await self.reload()

    async def reload(self, *, insist: bool = False) -> ReloadOutcome:
        """Read the sources again and apply what can be applied; `insist` tries what was taken back once more."""
        async with self._one_at_a_time:
            self._notifier.reloading()
            outcome = await self._take(insist=insist)
            self._taken += outcome.ok
            self._failed += not outcome.ok
            self._conclude(outcome)
            return outcome

    async def plan(self) -> ReloadOutcome:
        """What `reload` would come to now; nothing changes. `also` stays empty."""
        async with self._one_at_a_time:
            try:
                loaded = await self._read()
                if self._check is not None:
                    await asyncio.to_thread(self._check, loaded.config)
            except ConfigError as error:
                return ReloadOutcome(self._clock(), errors=tuple(str(error).splitlines()))
            return self._compare(loaded.config)

    async def _read(self) -> Loaded:
        return await asyncio.to_thread(self._load)  # a file on a network that hangs must not hang the daemon

    async def _take(self, *, insist: bool) -> ReloadOutcome:
        try:
            loaded = await self._read()
            put_in_force = await self._prepare(loaded.config) if self._prepare is not None else lambda: None
            outcome = self._apply(loaded.config, insist=insist)
            also = put_in_force()
            return outcome if also is None else replace(outcome, also=(also,))
        except ConfigError as error:
            return self._failure(*str(error).splitlines())
        except Exception as error:  # a fault of ours in here is no reason to stop serving
            log.exception("reload failed")
            return self._failure(f"reload failed: {error!r}")

    def _failure(self, *errors: str) -> ReloadOutcome:
        return ReloadOutcome(self._clock(), errors=errors, rolling=self._rolling)

    def _compare(self, wanted: Config) -> ReloadOutcome:
        running = self._current.config
        merged = with_keys(running, wanted, when="live")
        rolled = with_keys(merged, wanted, when="recycle")
        return ReloadOutcome(
            self._clock(),
            applied=changes(running, merged),
            rolling=changes(merged, rolled),
            pending=changes(rolled, wanted),
        )

    def _apply(self, wanted: Config, *, insist: bool) -> ReloadOutcome:
        outcome = self._compare(wanted)
        self._current.config = with_keys(self._current.config, wanted, when="live")
        if outcome.applied:
            for follower in self._followers:
                follower(self._current.config)
        refused, reason = self._refused
        if outcome.rolling and outcome.rolling == refused and not insist:
            return replace(outcome, rolling=(), errors=(reason,))
        self._refused = (), ""
        wanted = with_changes(self._current.config, outcome.rolling)
        if self._roll is None:
            self._current.config = wanted
            return replace(outcome, applied=(*outcome.applied, *outcome.rolling), rolling=())
        if outcome.rolling != self._rolling:  # none at all gives up what is being tried
            self._rolling = outcome.rolling
            self._roll(wanted, functools.partial(self._rolled, outcome.rolling))
        return outcome

    def _rolled(self, rolling: tuple[Change, ...], reason: str | None) -> None:
        """A trial has ended. The outcome of the reload that began it, or of one after it, is completed."""
        if self._rolling != rolling or not rolling:
            return
        self._rolling = ()
        outcome = replace(self._outcome or ReloadOutcome(0.0), at=self._clock(), rolling=())
        if reason is None:
            self._current.config = with_changes(self._current.config, rolling)
            self._conclude(replace(outcome, applied=(*outcome.applied, *rolling)), news=rolling)
            return
        words = f"{_names(rolling)}: taken back: {reason}"
        self._refused = rolling, words
        self._taken_back += 1
        self._conclude(replace(outcome, errors=(*outcome.errors, words)))

    def _conclude(self, outcome: ReloadOutcome, *, news: tuple[Change, ...] = ()) -> None:
        """Remember and tell it; of what is in force only the `news`, if there are any."""
        self._outcome = outcome
        _report(outcome if not news else ReloadOutcome(outcome.at, applied=news))
        self._notifier.reloaded(outcome.words)


def _names(changes: Sequence[Change]) -> str:
    return ", ".join(change.key for change in changes)


def _report(outcome: ReloadOutcome) -> None:
    if not outcome.ok:
        log.error("config refused, the running one stays", errors=list(outcome.errors))
        return
    for change in outcome.rolling:
        log.info("setting is tried", key=change.key, old=_old(change), new=_new(change))
    for change in outcome.applied:
        log.info("setting changed", key=change.key, old=_old(change), new=_new(change))
    for change in outcome.pending:
        log.warning("setting waits", key=change.key, running=_old(change), wanted=_new(change), until=change.when)
    if not outcome.applied and not outcome.rolling and not outcome.pending and not outcome.also:
        log.info("config unchanged")


def _old(change: Change) -> Any:
    return without_secret(change.key, change.old)


def _new(change: Change) -> Any:
    return without_secret(change.key, change.new)
