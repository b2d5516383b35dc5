"""One life of a worker: its process, its end of the wire, and what is known of it.

What the process generates goes from the wire to the listener at once; all that may move the worker becomes a report for
its actor, which alone decides.
"""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, assert_never

from msgspec import Struct

from gemmad.errors import ProtocolError
from gemmad.generation import EngineLoad, EngineSettings
from gemmad.logs import get_logger
from gemmad.protocol.channel import AsyncChannel
from gemmad.protocol.messages import (
    EXIT_ASKED,
    EXIT_DEVICE_LOST,
    EXIT_SETTINGS,
    PROTOCOL_VERSION,
    Configure,
    Dying,
    FromWorker,
    Heartbeat,
    Loading,
    Ready,
    Rejected,
    Stepped,
)
from gemmad.supervisor.listener import Listener, Verdict, WorkerHandle
from gemmad.supervisor.process import explain_exit, worker_environment
from gemmad.supervisor.restart import Fault
from gemmad.supervisor.seat import Seat

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


class Child(Protocol):
    """What a life needs of its process: a real one, or one that a test plays."""

    @property
    def pid(self) -> int: ...

    def terminate(self) -> None: ...

    def kill(self) -> None: ...

    def close(self) -> None: ...


class Spawn(Protocol):
    """Starts a program, as `Process` does."""

    def __call__(
        self,
        command: Sequence[str],
        *,
        env: Mapping[str, str],
        socket_fd: int,
        on_line: Callable[[str], None],
        on_exit: Callable[[int], None],
    ) -> Child: ...


class Life:
    """Begins with its construction, which raises OSError when the program cannot be started, and ends with `close`."""

    def __init__(
        self,
        seat: Seat,
        number: int,
        settings: EngineSettings,
        *,
        spawn: Callable[..., Child],
        listener: Listener,
        report: Callable[[Report], None],
        clock: Callable[[], float],
    ) -> None:
        self.number = number
        self.started_at = self.heard_at = clock()
        self.stage: str | None = None
        self.fraction: float | None = None
        self.load: EngineLoad | None = None
        # the actor's notes
        self.handle: WorkerHandle | None = None
        """What the listener knows it by: from ready to gone."""
        self.drain_until: float | None = None
        self.asked = False
        """It was told to exit, or its end is wanted anyway: however it ends, that is no fault."""
        self.terminated = False
        """SIGTERM was sent."""
        self.doom: Fault | None = None
        """What is known against it before its exit."""
        self.hung_up = False
        self.exit_code: int | None = None
        self.exited_at: float | None = None

        self._seat = seat
        self._listener = listener
        self._report = report
        self._clock = clock
        self._greeted = False
        self._was_ready = False
        self._last_line = ""
        self._unjudged: WorkerHandle | None = None
        self._begin(settings, spawn)

    def _begin(self, settings: EngineSettings, spawn: Callable[..., Child]) -> None:
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

    @property
    def draining(self) -> bool:
        """Whether it was told to finish."""
        return self.drain_until is not None

    def announce(self, ready: Ready) -> None:
        """From here on the listener knows it."""
        self.handle = WorkerHandle(self._seat.name, life=self.number, capacity=ready.capacity, send=self.channel.send)
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

    def explain(self) -> str:
        """Why it is gone, in words."""
        assert self.exit_code is not None
        how = explain_exit(self.exit_code)
        if self.exit_code == EXIT_ASKED and self.doom is None:
            return "exited as asked" if self.asked or self.draining else "exited though nobody asked it to"
        if self.doom is None:
            return f"{how}: {self._last_line}" if self.exit_code > 0 and self._last_line else how
        if self.exit_code in {-signal.SIGKILL, -signal.SIGTERM, EXIT_ASKED, EXIT_SETTINGS, EXIT_DEVICE_LOST}:
            return self.doom.reason
        return f"{self.doom.reason}; {how}"

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
        self._last_line = line
        log.info("worker output", worker=self._seat.name, life=self.number, line=line)
