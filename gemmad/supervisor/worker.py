"""The actor of one worker: one task that owns its state, fed by an inbox of wishes and of reports about its lives.

Wishes come from anyone and are ignored where they make no sense; reports carry the life that they are about, and one
about a life that is over is dropped. Deadlines follow from the state that it is in.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
from typing import Literal, assert_never

from gemmad.generation import EngineSettings
from gemmad.logs import get_logger
from gemmad.protocol import messages
from gemmad.protocol.messages import EXIT_ASKED, EXIT_DEVICE_LOST, EXIT_SETTINGS
from gemmad.supervisor import wishes
from gemmad.supervisor.deadlines import Alarm, Deadline, Times, next_deadline
from gemmad.supervisor.ending import Cause, judge_end
from gemmad.supervisor.gate import Gate
from gemmad.supervisor.gpus import Gpu
from gemmad.supervisor.history import History
from gemmad.supervisor.life import Exited, HungUp, Life, Report, Said
from gemmad.supervisor.lifecycle import AT_REST, SPEAKING, Event, State, after
from gemmad.supervisor.recycle import Tenure
from gemmad.supervisor.restart import Fault, FaultKind, Retry
from gemmad.supervisor.room import needed_bytes
from gemmad.supervisor.seat import Seat
from gemmad.supervisor.surroundings import Surroundings
from gemmad.supervisor.tally import Tally
from gemmad.supervisor.wishes import Wish, WorkerStatus

LOOK_SECONDS = 5.0
"""A deadline is looked at again at least so often, so that a changed setting holds for one that is running."""

log = get_logger("gemmad.supervisor")


class Worker:
    """One worker. `tally` counts the seat's lives and what they do; a `predecessor` on the same seat leaves what it has
    learnt."""

    def __init__(
        self,
        seat: Seat,
        around: Surroundings,
        *,
        tally: Tally,
        predecessor: Worker | None = None,
    ) -> None:
        self.seat = seat
        self.history: History = History() if predecessor is None else predecessor.history.copy()
        self._around = around
        self._section = around.section
        self._listener = around.listener
        self._clock = around.host.clock
        self._tally = tally

        self._state = State.STOPPED
        self._entered_at = self._looked_at = self._clock()
        self._number = 0
        self._life: Life | None = None
        self._gate = Gate(seat)
        self._let_in = predecessor is not None
        """Its next life begins without a look at the GPU: whoever wants one beside another has looked."""
        self._retry_at: float | None = None
        self._chance = 0.0
        self._retired = False
        self._inbox: collections.deque[Wish | Report] = collections.deque()
        self._bell = asyncio.Event()

    @property
    def state(self) -> State:
        """To be shown and to be wished upon, never to be relied on."""
        return self._state

    @property
    def given_up(self) -> bool:
        """Whether it has failed and nobody has asked it to begin anew."""
        return self._state is State.FAILED and not any(isinstance(item, wishes.Restart) for item in self._inbox)

    @property
    def life(self) -> int:
        """The number of its latest life; 0 before the first."""
        return self._number

    def settings_changed(self) -> bool:
        """Whether its next life would have other settings than its latest."""
        return self._around.settings(self.seat) != self.history.settings

    def wish(self, wish: Wish) -> None:
        """Ask for something; the actor decides when it comes to it."""
        self._post(wish)

    def status(self) -> WorkerStatus:
        """What there is to see of it now."""
        life = self._life
        loading = life if self._state is State.STARTING else None
        lack = self._gate.lack if self._state is State.WAITING else None
        return WorkerStatus(
            name=self.seat.name,
            device=self.seat.device,
            state=self._state,
            life=self._number,
            pid=life.process.pid if life else None,
            stage=loading.stage if loading else self.waits_for,
            fraction=loading.fraction if loading else None,
            since=self._entered_at,
            retry_at=self._retry_at,
            faults=self.history.record.weight,
            last_error=self.history.last_error,
            load=life.load if life else None,
            capacity=life.handle.capacity if life and life.handle else None,
            memory=life.memory if life else (),
            gpu=self.seat.gpu,
            waits_for=lack.words if lack else None,
            requests=life.requests if life else 0,
            heard_at=life.heard_at if life else None,
            above_baseline_bytes=life.above_baseline_bytes if life else None,
        )

    def tenure(self, *, growths: int) -> Tenure | None:
        """Its life as far as its renewal depends on it; None while it does not serve."""
        life = self._life
        if life is None or life.ready_at is None or self._state is not State.READY:
            return None
        return Tenure(
            age_seconds=self._clock() - life.ready_at,
            chance=self._chance,
            requests=life.requests,
            baseline_bytes=life.baseline_bytes,
            load=life.load,
            growths=growths,
        )

    def needed_bytes(self, gpu: Gpu, *, settings: EngineSettings) -> int | None:
        """What a life with these settings would take of this GPU; None where nobody counts."""
        planned_bytes = self.history.planned_bytes(settings)
        return needed_bytes(gpu, fraction=settings.memory_fraction, planned_bytes=planned_bytes)

    @property
    def waits_for(self) -> Literal["news", "gpu", "memory"] | None:
        """Its GPU, memory there, or news of either; None while it does not wait."""
        if self._state is not State.WAITING:
            return None
        return "news" if self._gate.lack is None else self._gate.lack.stage

    def ready_in_seconds(self) -> float:
        """A guess of when it is ready, if all goes well."""
        now, life = self._clock(), self._life
        pause_seconds = 0.0 if self._retry_at is None else max(0.0, self._retry_at - now)
        loading = life is not None and self._state is State.STARTING
        elapsed = now - life.started_at if life is not None and loading else None
        return pause_seconds + self.history.ready_in_seconds(elapsed=elapsed, fraction=life.fraction if life else None)

    async def run(self) -> None:
        """Live until retired. Cancelled, it leaves no process behind."""
        try:
            while not self._is_over():
                await self._wait()
                while self._inbox:
                    self._take(self._inbox.popleft())
                while (deadline := self._deadline()) and deadline.at <= self._clock():
                    self._meet(deadline)
        finally:
            if self._life is not None:
                self._life.dismiss("the daemon stops")
                self._let_go(self._life)

    # --- the inbox ----------------------------------------------------------------------------------------------------

    def _post(self, item: Wish | Report) -> None:
        self._inbox.append(item)
        self._bell.set()

    async def _wait(self) -> None:
        self._bell.clear()
        if self._inbox:
            return
        deadline = self._deadline()
        timeout = None if deadline is None else max(0.0, min(deadline.at - self._clock(), LOOK_SECONDS))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                await self._bell.wait()
        if self._life is not None and not self._inbox:  # all is quiet
            self._life.host_memory.look()

    def _take(self, item: Wish | Report) -> None:
        if not isinstance(item, Said | HungUp | Exited):
            self._take_wish(item)
        elif self._life is not None and item.life == self._life.number:
            self._take_report(self._life, item)

    def _take_wish(self, wish: Wish) -> None:
        match wish:
            case wishes.Start():
                if self._state is State.STOPPED or (self._state is State.FAILED and self.settings_changed()):
                    self._begin()
            case wishes.Restart() if self._state in AT_REST:
                self._begin()
            case wishes.Restart():
                self._drain(wish.grace_seconds)
            case wishes.Drain():
                self._drain(wish.grace_seconds)
            case wishes.Stop():
                self._stop()
            case wishes.Retire():
                self._retired = True
                self._drain(wish.grace_seconds)
            case wishes.Inherit(record, last_error):
                self.history.record, self.history.last_error = record, last_error
            case wishes.Looked():
                self._look(wish)
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
                self._around.changed()
            case messages.Ready():
                if self._state is State.STARTING:  # it may have been stopped meanwhile
                    self.history.note_ready(message, load_seconds=self._clock() - life.started_at)
                    self._chance = self._around.host.chance()
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
        """The next life, as soon as its GPU has room for it."""
        if self._state is State.WAITING:
            return
        if self._retired:
            self._stop()
            return
        self._retry_at = None
        if self._around.looks and self.seat.gpu is not None and not self._let_in:
            self._gate.close(now=self._clock())
            self._move(Event.WAIT)
        else:
            self._start()

    def _look(self, news: wishes.Looked) -> None:
        if self._state is not State.WAITING:
            return
        lack, settings = self._gate.lack, self._around.settings(self.seat)
        fraction, planned_bytes = settings.memory_fraction, self.history.planned_bytes(settings)
        if self._gate.look(news.gpus, at=news.at, now=self._clock(), fraction=fraction, planned_bytes=planned_bytes):
            self._start()
        elif self._gate.lack != lack:
            self._around.changed()

    def _start_all_the_same(self) -> None:
        """The memory did not come back in time. What the settings allow may be more than the worker takes, and who
        holds it may be miscounted: the worker's own attempt tells, and its fault, if it is one, names the lack."""
        assert self._gate.lack is not None
        words = self._gate.lack.words
        log.warning("worker starts although its GPU is not free", worker=self.seat.name, reason=words)
        self._start(short=words)

    def _start(self, *, short: str | None = None) -> None:
        settings = self._around.settings(self.seat)
        self.history.begin(settings)
        self._let_in = False
        self._number = self._tally.next_number()
        self._move(Event.START)
        try:
            self._life = Life(
                self.seat,
                self._number,
                settings,
                spawn=self._around.spawn,
                listener=self._listener,
                report=self._post,
                host=self._around.host,
            )
        except OSError as error:
            self._fall(FaultKind.CRASH, f"its program cannot be started: {error}", cause=Cause.LOAD_FAILED)
            return
        self._life.short = short
        self._tally.begin(self._life.work)

    def _drain(self, grace_seconds: float) -> None:
        life = self._life
        if life is None or life.handle is None or grace_seconds <= 0:
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
        if self._state in SPEAKING:  # else it goes for a reason of its own
            life.asked = True
            life.channel.send(messages.Shutdown())
            life.dismiss("it was stopped")
            self._move(Event.STOP)

    def _leave(self, life: Life, reason: str) -> None:
        """It goes by itself; its exit follows, or is enforced."""
        if self._state in SPEAKING:
            life.dismiss(reason)
            self._move(Event.LEAVE, reason)

    def _examine(self, life: Life, reason: str) -> None:
        """It hangs. Its requests go on elsewhere at once; it is left a moment to write its stacks into the log."""
        life.hung = True
        condition = life.process.examine()
        if condition is not None:
            reason = f"{reason}; {condition.words}"
            life.from_outside = condition.from_outside
        life.doom = life.doom or Fault(FaultKind.CRASH, reason)
        life.dismiss(reason)
        self._move(Event.HANG, reason)

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
        ending = judge_end(life.evidence())
        life.dismiss(ending.reason)
        self._let_go(life)
        life.judge(ending.verdict, ending.reason)
        if ending.kind is None or ending.cause is None:
            self._move(Event.ENDED, ending.reason)
        else:
            self._fall(ending.kind, ending.reason, cause=ending.cause)

    def _let_go(self, life: Life) -> None:
        life.close()
        self._tally.end(life.work)
        self._life = None

    def _fall(self, kind: FaultKind, reason: str, *, cause: Cause) -> None:
        self._tally.note_restart(cause)
        now, section, chance = self._clock(), self._section(), self._around.host.chance()
        decision = self.history.note_fault(kind, reason, now=now, section=section, chance=chance)
        pause = decision.pause_seconds
        self._retry_at = None if pause is None else now + pause
        again = "waits for other settings" if pause is None else f"tries again in {pause:.1f} s"
        self._move(Event.CRASHED if isinstance(decision, Retry) else Event.GAVE_UP, f"{reason}; {again}")
        if self._retired:
            self._stop()

    def _move(self, event: Event, reason: str = "") -> None:
        was, self._state = self._state, after(self._state, event)
        self._entered_at = self._looked_at = self._clock()
        say = {State.BACKOFF: log.warning, State.HUNG: log.warning, State.KILLING: log.warning, State.FAILED: log.error}
        say.get(self._state, log.info)(
            "worker state",
            worker=self.seat.name,
            life=self._number,
            state=self._state.value,
            was=was.value,
            **({"reason": reason} if reason else {}),
        )
        self._around.changed()

    # --- deadlines ----------------------------------------------------------------------------------------------------

    def _deadline(self) -> Deadline | None:
        life = self._life
        times = Times(
            state=self._state,
            entered_at=self._entered_at,
            looked_at=self._looked_at,
            retry_at=self._retry_at,
            opens_at=self._gate.opens_at(self._section().memory_timeout),
            heard_at=life.heard_at if life else None,
            drain_until=life.drain_until if life else None,
            terminated=life is not None and life.terminated,
            exited_at=life.exited_at if life else None,
        )
        return next_deadline(times, self._section())

    def _meet(self, deadline: Deadline) -> None:
        match deadline.alarm, self._life:
            case Alarm.BEGIN, None:
                self._begin()
            case Alarm.START_ALL_THE_SAME, None:
                self._start_all_the_same()
            case Alarm.STOP, _:
                self._stop()
            case Alarm.EXAMINE, Life() as life:
                self._examine(life, deadline.words)
            case Alarm.TERMINATE, Life() as life:
                self._terminate(life)
            case Alarm.KILL, Life() as life:
                self._kill(life, deadline.words)
            case Alarm.WONDER, Life() as life:
                self._wonder(life)
            case Alarm.END, Life() as life:
                self._end(life)
            case _:
                raise AssertionError(deadline)

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
