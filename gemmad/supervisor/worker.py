"""The actor of one worker: one task that owns its state, fed by an inbox of wishes and of reports about its lives.

Wishes come from anyone and are ignored where they make no sense; reports carry the life that they are about, and one
about a life that is over is dropped. Deadlines follow from the state that it is in.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import random
import signal
import time
from collections.abc import Callable
from functools import partial
from typing import assert_never

from gemmad.config.schema import WorkersSection
from gemmad.generation import EngineSettings
from gemmad.logs import get_logger
from gemmad.protocol import messages
from gemmad.protocol.messages import EXIT_ASKED, EXIT_DEVICE_LOST, EXIT_SETTINGS
from gemmad.supervisor import wishes
from gemmad.supervisor.life import Child, Exited, HungUp, Life, Report, Said
from gemmad.supervisor.lifecycle import AT_REST, SPEAKING, Event, State, after
from gemmad.supervisor.listener import Listener, Verdict
from gemmad.supervisor.restart import Fault, FaultKind, Record, Retry, judge, judge_exit
from gemmad.supervisor.seat import Seat
from gemmad.supervisor.wishes import Wish, WorkerStatus

LOOK_SECONDS = 5.0
"""A deadline is looked at again at least so often, so that a changed setting holds for one that is running."""
LAST_WORDS_SECONDS = 1.0
"""After an exit, how long what is still in the wire is waited for."""
UNKILLABLE_SECONDS = 10.0
"""After SIGKILL; a process that stays hangs in the kernel, most likely in the GPU's driver."""
UNKNOWN_LOAD_SECONDS = 10.0
"""How long loading takes, as long as nobody knows."""

log = get_logger("gemmad.supervisor")

Deadline = tuple[float, Callable[[], None]]
"""When, and what happens then."""


class Worker:
    """One worker. `spawn` starts its program; `changed` is called after every move and every sign of progress."""

    def __init__(
        self,
        seat: Seat,
        *,
        section: Callable[[], WorkersSection],
        settings: Callable[[Seat], EngineSettings],
        listener: Listener,
        spawn: Callable[..., Child],
        changed: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self.seat = seat
        self.served = False
        """Whether any of its lives was ready."""
        self._section = section
        self._settings = settings
        self._listener = listener
        self._spawn = spawn
        self._changed = changed
        self._clock = clock
        self._chance = chance

        self._state = State.STOPPED
        self._entered_at = self._looked_at = clock()
        self._lives = 0
        self._life: Life | None = None
        self._built_with: EngineSettings | None = None
        self._load_seconds: float | None = None
        self._record = Record()
        self._retry_at: float | None = None
        self._last_error: str | None = None
        self._retired = False
        self._inbox: collections.deque[Wish | Report] = collections.deque()
        self._bell = asyncio.Event()

    @property
    def state(self) -> State:
        """To be shown and to be wished upon, never to be relied on."""
        return self._state

    def wish(self, wish: Wish) -> None:
        """Ask for something; the actor decides when it comes to it."""
        self._post(wish)

    def status(self) -> WorkerStatus:
        """What there is to see of it now."""
        life = self._life
        loading = life if self._state is State.STARTING else None
        return WorkerStatus(
            name=self.seat.name,
            device=self.seat.device,
            state=self._state,
            life=self._lives,
            pid=life.process.pid if life else None,
            stage=loading.stage if loading else None,
            fraction=loading.fraction if loading else None,
            since=self._entered_at,
            retry_at=self._retry_at,
            faults=self._record.weight,
            last_error=self._last_error,
            load=life.load if life else None,
            capacity=life.handle.capacity if life and life.handle else None,
        )

    def ready_in_seconds(self) -> float:
        """A guess of when it is ready, if all goes well: from the last time that it loaded, or from its progress."""
        load_seconds = self._load_seconds or UNKNOWN_LOAD_SECONDS
        now = self._clock()
        if self._retry_at is not None:
            return max(0.0, self._retry_at - now) + load_seconds
        if self._life is None or self._state is not State.STARTING:
            return load_seconds
        elapsed = now - self._life.started_at
        if self._load_seconds is None and self._life.fraction:
            return elapsed * max(0.0, 1.0 - self._life.fraction) / self._life.fraction
        return max(1.0, load_seconds - elapsed)

    async def run(self) -> None:
        """Live until retired. Cancelled, it leaves no process behind."""
        try:
            while not self._is_over():
                await self._wait()
                while self._inbox:
                    self._take(self._inbox.popleft())
                while (deadline := self._deadline()) and deadline[0] <= self._clock():
                    deadline[1]()
        finally:
            if self._life is not None:
                self._life.dismiss("the daemon stops")
                self._life.close()
                self._life = None

    # --- the inbox ----------------------------------------------------------------------------------------------------

    def _post(self, item: Wish | Report) -> None:
        self._inbox.append(item)
        self._bell.set()

    async def _wait(self) -> None:
        self._bell.clear()
        if self._inbox:
            return
        deadline = self._deadline()
        timeout = None if deadline is None else max(0.0, min(deadline[0] - self._clock(), LOOK_SECONDS))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                await self._bell.wait()

    def _take(self, item: Wish | Report) -> None:
        if not isinstance(item, Said | HungUp | Exited):
            self._take_wish(item)
        elif self._life is not None and item.life == self._life.number:
            self._take_report(self._life, item)

    def _take_wish(self, wish: Wish) -> None:
        match wish:
            case wishes.Start():
                failed_otherwise = self._state is State.FAILED and self._settings(self.seat) != self._built_with
                if self._state is State.STOPPED or failed_otherwise:
                    self._begin()
            case wishes.Restart():
                if self._state in AT_REST:
                    self._begin()
                else:
                    self._drain(wish.grace_seconds)
            case wishes.Drain():
                self._drain(wish.grace_seconds)
            case wishes.Stop():
                self._stop()
            case wishes.Retire():
                self._retired = True
                self._stop()
            case _:
                assert_never(wish)

    def _take_report(self, life: Life, report: Report) -> None:
        match report:
            case Said():
                self._take_message(life, report.message)
            case HungUp():
                life.hung_up = True
                if life.exit_code is not None:
                    self._end(life)
                elif report.broken:
                    self._kill(life, report.reason)
                else:
                    self._leave(life, f"it hung up: {report.reason}")
            case Exited():
                life.exit_code, life.exited_at = report.code, self._clock()
                if life.hung_up:
                    self._end(life)
            case _:
                assert_never(report)

    def _take_message(self, life: Life, message: messages.Loading | messages.Ready | messages.Dying) -> None:
        match message:
            case messages.Loading():
                self._changed()
            case messages.Ready():
                if self._state is State.STARTING:  # it may have been stopped meanwhile
                    self.served = True
                    self._load_seconds = self._clock() - life.started_at
                    self._move(Event.SERVED)
                    life.announce(message)
            case messages.Dying():
                kinds = {EXIT_SETTINGS: FaultKind.SETTINGS, EXIT_DEVICE_LOST: FaultKind.DEVICE_LOST}
                if message.exit_code != EXIT_ASKED:
                    life.doom = life.doom or Fault(kinds.get(message.exit_code, FaultKind.CRASH), message.reason)
                self._leave(life, message.reason)
            case _:
                assert_never(message)

    # --- moves --------------------------------------------------------------------------------------------------------

    def _begin(self) -> None:
        """The next life. (Where the GPU's memory must be back first, that wait belongs before this.)"""
        settings = self._settings(self.seat)
        if settings != self._built_with:
            self._record = Record()  # what went wrong with other settings does not count against these
        self._built_with = settings
        self._lives += 1
        self._retry_at = None
        self._move(Event.START)
        try:
            self._life = Life(
                self.seat,
                self._lives,
                settings,
                spawn=self._spawn,
                listener=self._listener,
                report=self._post,
                clock=self._clock,
            )
        except OSError as error:
            self._fall(FaultKind.CRASH, f"its program cannot be started: {error}")

    def _drain(self, grace_seconds: float) -> None:
        life = self._life
        if life is None or life.handle is None:
            self._stop()
        elif life.drain_until is None:
            life.drain_until = self._clock() + grace_seconds
            self._listener.worker_leaving(life.handle)
            life.channel.send(messages.Drain())
            self._move(Event.DRAIN)
        else:
            life.drain_until = min(life.drain_until, self._clock() + grace_seconds)

    def _stop(self) -> None:
        life = self._life
        if life is None:
            self._retry_at = None
            if self._state is not State.STOPPED:
                self._move(Event.STOP)
            return
        life.asked = True
        if self._state in SPEAKING:
            life.channel.send(messages.Shutdown())
            life.dismiss("it was stopped")
            self._move(Event.STOP)

    def _leave(self, life: Life, reason: str) -> None:
        """It goes by itself; its exit follows, or is enforced."""
        if self._state in SPEAKING:
            life.dismiss(reason)
            self._move(Event.LEAVE, reason)

    def _kill(self, life: Life, reason: str) -> None:
        if self._state is State.KILLING:
            return
        life.doom = life.doom or Fault(FaultKind.CRASH, reason)
        life.dismiss(reason)
        life.channel.close()
        life.hung_up = True
        life.process.kill()
        self._move(Event.KILL, reason)

    def _end(self, life: Life) -> None:
        """The process is gone, and all that it said was heard."""
        assert life.exit_code is not None
        reason = life.explain()
        life.dismiss(reason)
        life.close()
        self._life = None
        doom = life.doom.kind if life.doom else None
        kind = judge_exit(life.exit_code, asked=life.asked, draining=life.draining, doom=doom)
        from_outside = life.doom is None and life.exit_code == -signal.SIGKILL
        life.judge(Verdict.INNOCENT if kind is None or from_outside else Verdict.SUSPECT, reason)
        if kind is None:
            self._move(Event.ENDED, reason)
        else:
            self._fall(kind, reason)

    def _fall(self, kind: FaultKind, reason: str) -> None:
        now = self._clock()
        self._last_error = reason
        self._record, decision = judge(self._record, kind, now=now, section=self._section(), chance=self._chance())
        pause = decision.pause_seconds
        self._retry_at = None if pause is None else now + pause
        again = "waits for other settings" if pause is None else f"tries again in {pause:.1f} s"
        self._move(Event.CRASHED if isinstance(decision, Retry) else Event.GAVE_UP, f"{reason}; {again}")

    def _move(self, event: Event, reason: str = "") -> None:
        was, self._state = self._state, after(self._state, event)
        self._entered_at = self._looked_at = self._clock()
        say = {State.BACKOFF: log.warning, State.KILLING: log.warning, State.FAILED: log.error}
        say.get(self._state, log.info)(
            "worker state",
            worker=self.seat.name,
            life=self._lives,
            state=self._state.value,
            was=was.value,
            **({"reason": reason} if reason else {}),
        )
        self._changed()

    # --- deadlines ----------------------------------------------------------------------------------------------------

    def _deadline(self) -> Deadline | None:
        """Until when things may stay as they are, and what happens then."""
        life = self._life
        if life is None:
            return None if self._retry_at is None else (self._retry_at, self._begin)
        if life.exited_at is not None:
            return life.exited_at + LAST_WORDS_SECONDS, partial(self._end, life)
        if self._state in {State.STOPPING, State.KILLING}:
            return self._deadline_of_leaving(life)
        return self._deadline_of_silence(life)

    def _deadline_of_silence(self, life: Life) -> Deadline:
        section = self._section()
        if self._state is State.STARTING:
            late = f"no sign of life for {section.load_timeout:g} s while it loaded"
            return life.heard_at + section.load_timeout, partial(self._kill, life, late)
        silent_at = life.heard_at + section.hang_timeout
        if life.drain_until is not None and life.drain_until < silent_at:
            return life.drain_until, self._stop
        return silent_at, partial(self._kill, life, f"its step loop was silent for {section.hang_timeout:g} s")

    def _deadline_of_leaving(self, life: Life) -> Deadline:
        """A word at first, SIGTERM at half of the grace, SIGKILL at its end."""
        grace_seconds = self._section().stop_grace
        if self._state is State.KILLING:
            return self._looked_at + UNKILLABLE_SECONDS, partial(self._wonder, life)
        if life.terminated:
            late = f"not gone after {grace_seconds:g} s"
            return self._entered_at + grace_seconds, partial(self._kill, life, late)
        return self._entered_at + grace_seconds / 2, partial(self._terminate, life)

    def _terminate(self, life: Life) -> None:
        life.terminated = True
        if not life.asked:
            life.doom = life.doom or Fault(FaultKind.CRASH, "it hung up and did not exit")
        life.process.terminate()

    def _wonder(self, life: Life) -> None:
        self._looked_at = self._clock()
        seconds = round(self._looked_at - self._entered_at)
        log.error(
            "worker survives SIGKILL", worker=self.seat.name, life=life.number, pid=life.process.pid, seconds=seconds
        )

    def _is_over(self) -> bool:
        unkillable = self._state is State.KILLING and self._looked_at > self._entered_at
        return self._retired and (self._state is State.STOPPED or unkillable)
