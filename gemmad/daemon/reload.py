"""A running daemon takes a new config: live keys at once, the others are told and wait, a bad one changes nothing."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence

from msgspec import Struct

from gemmad import logs
from gemmad.config.keys import Change, changes, with_live_keys
from gemmad.config.load import Loaded
from gemmad.config.schema import Config
from gemmad.daemon.notify import Notifier
from gemmad.errors import ConfigError

log = logs.get_logger(__name__)


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
    pending: tuple[Change, ...] = ()
    """Between what runs and what the sources say: in force once workers, or the daemon, start anew."""

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
        if not self.applied and not self.pending:
            return "config unchanged"
        waiting = f", waiting for a restart: {', '.join(change.key for change in self.pending)}" if self.pending else ""
        return f"config reloaded, applied: {', '.join(change.key for change in self.applied) or 'nothing'}{waiting}"


class Reloader:
    """The only writer of `current`.

    `load` reads the sources again and raises ConfigError. Each of `followers` is called with the running config after
    its live keys changed, for what must be told a new value rather than ask for it (the log's level).
    """

    def __init__(
        self,
        current: Current,
        *,
        load: Callable[[], Loaded],
        notifier: Notifier,
        followers: Sequence[Callable[[Config], None]] = (),
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._current = current
        self._load = load
        self._notifier = notifier
        self._followers = tuple(followers)
        self._clock = clock
        self._bell = asyncio.Event()
        self._one_at_a_time = asyncio.Lock()
        self._outcome: ReloadOutcome | None = None

    @property
    def outcome(self) -> ReloadOutcome | None:
        """Of the last reload; None before the first."""
        return self._outcome

    def ring(self) -> None:
        """Ask for a reload. Rings merge; one during a reload leads to another."""
        self._bell.set()

    async def run(self) -> None:
        """Reload at each ring, until cancelled."""
        while True:
            await self._bell.wait()
            self._bell.clear()
            await self.reload()

    async def reload(self) -> ReloadOutcome:
        """Read the sources again and apply what can be applied."""
        async with self._one_at_a_time:
            self._notifier.reloading()
            outcome = await self._take()
            self._outcome = outcome
            _report(outcome)
            self._notifier.reloaded(outcome.words)
            return outcome

    async def _take(self) -> ReloadOutcome:
        try:
            # in a thread: a file on a network that hangs must not hang the daemon
            loaded = await asyncio.to_thread(self._load)
            return self._apply(loaded.config)
        except ConfigError as error:
            return ReloadOutcome(self._clock(), errors=tuple(str(error).splitlines()))
        except Exception as error:  # a fault of ours in here is no reason to stop serving
            log.exception("reload failed")
            return ReloadOutcome(self._clock(), errors=(f"reload failed: {error!r}",))

    def _apply(self, wanted: Config) -> ReloadOutcome:
        running = self._current.config
        merged = with_live_keys(running, wanted)
        applied = changes(running, merged)
        self._current.config = merged
        if applied:
            for follower in self._followers:
                follower(merged)
        return ReloadOutcome(self._clock(), applied=applied, pending=changes(merged, wanted))


def _report(outcome: ReloadOutcome) -> None:
    if not outcome.ok:
        log.error("config refused, the running one stays", errors=list(outcome.errors))
        return
    for change in outcome.applied:
        log.info("setting changed", key=change.key, old=change.old, new=change.new)
    for change in outcome.pending:
        log.warning("setting waits", key=change.key, running=change.old, wanted=change.new, until=change.when)
    if not outcome.applied and not outcome.pending:
        log.info("config unchanged")
