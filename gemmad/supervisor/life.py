"""One life of a worker: its process, its end of the wire, and what is known of it.

What the process generates goes from the wire to the listener at once; all that may move the worker becomes a report for
its actor, which alone decides.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Sequence
from typing import assert_never

from msgspec import Struct

from gemmad.errors import ProtocolError
from gemmad.generation import EngineLoad, EngineSettings, MemoryRow
from gemmad.logs import get_logger
from gemmad.planning.table import memory_fields
from gemmad.protocol.channel import AsyncChannel
from gemmad.protocol.messages import (
    PROTOCOL_VERSION,
    Configure,
    Dying,
    FromWorker,
    Heartbeat,
    Loading,
    Ready,
    Rejected,
    Stepped,
    Submit,
    ToWorker,
)
from gemmad.supervisor.child import Spawn
from gemmad.supervisor.ending import Evidence
from gemmad.supervisor.listener import Listener, Verdict, WorkerHandle
from gemmad.supervisor.output import relay
from gemmad.supervisor.process import worker_environment
from gemmad.supervisor.restart import Fault
from gemmad.supervisor.seat import Seat
from gemmad.supervisor.surroundings import Host
from gemmad.supervisor.tally import Work, work_of

log = get_logger("gemmad.supervisor")


class Said(Struct, frozen=True):
    """A message that may move the worker."""

    life: int
    message: Loading | Ready | Dying


class HungUp(Struct, frozen=True):
    """The wire is closed; `broken`: because what came over it cannot be."""

    life: int
    reason: str
    broken: bool


class Exited(Struct, frozen=True):
    """The process is gone."""

    life: int
    code: int


Report = Said | HungUp | Exited
"""What reaches the actor's inbox about a life, which it names."""


class Life:
    """Begins with its construction, which raises OSError when the program cannot be started, and ends with `close`."""

    def __init__(
        self,
        seat: Seat,
        number: int,
        settings: EngineSettings,
        *,
        spawn: Spawn,
        listener: Listener,
        report: Callable[[Report], None],
        host: Host,
    ) -> None:
        self.number = number
        self.started_at = self.heard_at = host.clock()
        self.stage: str | None = None
        self.fraction: float | None = None
        self.load: EngineLoad | None = None
        self.baseline_bytes: int | None = None
        """What it held of its device when it was ready."""
        self.requests = 0
        """That it was handed."""
        self.memory: tuple[MemoryRow, ...] = ()
        """Its plan as it came out; known when it is ready."""
        # the actor's notes
        self.handle: WorkerHandle | None = None
        """What the listener knows it by: from ready to gone."""
        self.ready_at: float | None = None
        self.drain_until: float | None = None
        self.asked = False
        """It was told to exit, or its end is wanted anyway: however it ends, that is no fault."""
        self.terminated = False
        """SIGTERM was sent."""
        self.doom: Fault | None = None
        """What is known against it before its exit."""
        self.hung = False
        """It was silent for too long."""
        self.from_outside = False
        """Somebody had stopped it."""
        self.short: str | None = None
        """It was begun though its GPU's memory was not free, in words."""
        self.hung_up = False
        self.exit_code: int | None = None
        self.exited_at: float | None = None

        self._seat = seat
        self._listener = listener
        self._report = report
        self._clock = host.clock
        self._greeted = False
        self._was_ready = False
        self._last_line = ""
        self._unjudged: WorkerHandle | None = None
        self._begin(settings, spawn)
        self._cgroups = host.cgroups
        self._cgroup = self._cgroups.take(f"{seat.name}-{number}", self.process.pid)
        self.host_memory = host.watch_memory(self.process.pid)

    def _begin(self, settings: EngineSettings, spawn: Spawn) -> None:
        ours, theirs = socket.socketpair()
        try:
            self.process = spawn(
                env=worker_environment(os.environ, self._seat.env),
                socket_fd=theirs.fileno(),
                on_line=self._print_line,
                on_exit=lambda code: self._report(Exited(self.number, code)),
            )
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        if self._seat.cpus:
            self.process.pin(self._seat.cpus)
        self.channel: AsyncChannel[FromWorker] = AsyncChannel(
            ours,
            FromWorker,
            on_message=self._hear,
            on_closed=lambda reason: self._report(HungUp(self.number, reason, self.channel.broken)),
        )
        self.channel.send(
            Configure(protocol=PROTOCOL_VERSION, worker=self._seat.name, life=self.number, settings=settings)
        )

    def close(self) -> None:
        """Let go of the wire and of the process, which is killed if it still runs."""
        self.channel.close()
        self.process.close()
        if self._cgroup is not None:
            self._cgroups.give_back(self._cgroup)

    @property
    def draining(self) -> bool:
        """Whether it was told to finish."""
        return self.drain_until is not None

    @property
    def above_baseline_bytes(self) -> int | None:
        """What it holds of its device beyond what it had when it was ready; None on a CPU, and before."""
        if self.load is None or self.baseline_bytes is None or self._seat.device == "cpu":
            return None
        return self.load.device_bytes - self.baseline_bytes

    def work(self) -> Work:
        """What it has done so far, as far as it has told."""
        return work_of(self.load, requests=self.requests)

    def announce(self, ready: Ready) -> None:
        """From here on the listener knows it."""
        self.memory = ready.memory
        if ready.memory:
            log.info("worker memory", worker=self._seat.name, life=self.number, **memory_fields(ready.memory))
        self.ready_at = self._clock()
        self.handle = WorkerHandle(self._seat.name, life=self.number, capacity=ready.capacity, send=self._send)
        self._listener.worker_ready(self.handle, ready)

    def dismiss(self, reason: str) -> None:
        """From here on the listener knows nothing of it."""
        if self.handle is not None:
            handle, self.handle = self.handle, None
            self._unjudged = handle
            self._listener.worker_gone(handle, reason)

    def judge(self, verdict: Verdict, reason: str) -> None:
        """The listener, if it ever knew it, hears why it went."""
        if self._unjudged is not None:
            handle, self._unjudged = self._unjudged, None
            self._listener.worker_judged(handle, verdict, reason)

    def evidence(self) -> Evidence:
        """What is known of it, once its exit is."""
        assert self.exit_code is not None
        return Evidence(
            exit_code=self.exit_code,
            asked=self.asked,
            draining=self.draining,
            served=self.ready_at is not None,
            hung=self.hung,
            doom=self.doom,
            from_outside=self.from_outside,
            starved=self.host_memory.explain(),
            short=self.short,
            last_line=self._last_line,
        )

    def _send(self, message: ToWorker, fds: Sequence[int]) -> None:
        self.requests += isinstance(message, Submit)
        self.channel.send(message, fds)

    def _hear(self, message: FromWorker) -> None:
        self.heard_at = self._clock()
        try:
            self._check(message)
            match message:
                case Stepped() | Rejected():
                    if self.handle is not None:
                        self._listener.worker_said(self.handle, message)
                case Heartbeat(load):
                    self.load = load
                    if self.baseline_bytes is None and self._was_ready:
                        self.baseline_bytes = load.device_bytes
                    if self.handle is not None:
                        self._listener.worker_load(self.handle, load)
                case Loading(stage=stage, fraction=fraction):
                    self.stage, self.fraction = stage, fraction
                    self._report(Said(self.number, message))
                case Ready() | Dying():
                    self._report(Said(self.number, message))
                case _:
                    assert_never(message)
        except ProtocolError as error:
            self._break(f"it broke the protocol: {error}")
        except Exception as error:  # the daemon outlives its own bug in one frame; the worker's requests move on
            log.exception("message not understood", worker=self._seat.name, life=self.number)
            self._break(f"the daemon failed over its message: {error!r}")

    def _check(self, message: FromWorker) -> None:
        if not self._greeted:
            if not isinstance(message, Loading):
                raise ProtocolError(f"its first message is {type(message).__name__}, not Loading")
            if message.protocol != PROTOCOL_VERSION:
                raise ProtocolError(f"it speaks version {message.protocol}, not {PROTOCOL_VERSION}")
            self._greeted = True
        elif isinstance(message, Loading | Ready) and self._was_ready:
            raise ProtocolError(f"{type(message).__name__} from a worker that is ready")
        elif isinstance(message, Stepped | Rejected) and not self._was_ready:
            raise ProtocolError(f"{type(message).__name__} from a worker that is not ready")
        self._was_ready = self._was_ready or isinstance(message, Ready)

    def _break(self, reason: str) -> None:
        self.channel.close()
        self._report(HungUp(self.number, reason, broken=True))

    def _print_line(self, line: str) -> None:
        self._last_line = relay(line, worker=self._seat.name, life=self.number)
