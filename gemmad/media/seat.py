"""Room for one media process: it is started, given one picture at a time, and replaced when it is gone.

    EMPTY ──▶ STARTING ──Idle──▶ READY ⇄ BUSY
      ▲          │                 │       │
      └──gone────┴───── LEAVING ◀──┴───────┘   killed (overran, broke the protocol), or ends by itself (has grown)

A process may be gone from any state. Over a picture, it fails that picture and no other. One that was given a picture
is replaced at once; one that never got so far only after a pause, which doubles each time.
"""

from __future__ import annotations

import asyncio
import contextvars
import enum
import time
from collections.abc import Callable, Sequence

from gemmad.config.schema import MediaSection
from gemmad.errors import InvalidRequestError, ProtocolError, UnavailableError
from gemmad.logs import get_logger
from gemmad.media.child import Child, Said
from gemmad.media.pixels import Pixels
from gemmad.media.task import Task
from gemmad.media.wire import Begin, Done, Idle, Job, Refused

START_SECONDS = 30.0
"""A process that is not ready after so long is killed."""
LEAVE_SECONDS = 5.0
"""A process that said it would end and does not is killed after so long."""
FIRST_PAUSE_SECONDS = 0.1
LONGEST_PAUSE_SECONDS = 10.0

log = get_logger(__name__)


class SeatState(enum.Enum):
    """What the seat's process does."""

    EMPTY = "empty"
    STARTING = "starting"
    READY = "ready"
    BUSY = "busy"
    LEAVING = "leaving"


class Seat:
    """The only one that speaks to its process. `on_free` is called when a picture may be given again."""

    def __init__(
        self,
        command: Sequence[str],
        begin: Begin,
        *,
        on_free: Callable[[], None],
        clock: Callable[[], float] = time.monotonic,
        start_seconds: float = START_SECONDS,
        leave_seconds: float = LEAVE_SECONDS,
    ) -> None:
        self.state = SeatState.EMPTY
        self.task: Task | None = None
        self.deaths = 0
        """Processes that ended without being asked to."""
        self.last_seconds: float | None = None
        """How long the last picture took."""
        self._command = command
        self._begin = begin
        self._on_free = on_free
        self._clock = clock
        self._start_seconds = start_seconds
        self._leave_seconds = leave_seconds
        self._child: Child[Said] | None = None
        self._given_at: float | None = None
        self._idle_deaths = 0
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Spawn a process; it says itself when it is ready."""
        self._given_at = None
        try:
            self._child = Child(self._command, self._begin, on_said=self._hear, on_gone=self._replace)
        except OSError as error:
            self._start_later(f"it could not be spawned: {error}")
            return
        self._enter(SeatState.STARTING)
        self._call_later(self._start_seconds, self._dismiss, "it did not get ready")

    def give(self, task: Task, section: MediaSection) -> None:
        """Let the process, which is READY, do `task` under the limits of now."""
        assert self.state is SeatState.READY
        assert self._child is not None
        self._enter(SeatState.BUSY)
        self.task = task
        task.has_started = True
        self._given_at = self._clock()
        self._call_later(section.timeout, self._overrun, section.timeout)
        self._child.send(
            Job(
                number=task.number,
                url=task.url,
                max_bytes=section.max_bytes,
                max_pixels=section.max_pixels,
                allow_private=section.allow_private,
                seconds=section.timeout,
            )
        )

    def close(self) -> None:
        """End the process and its picture. Nothing is left running when it returns."""
        self._enter(SeatState.EMPTY)
        child, self._child = self._child, None
        if child is not None:
            child.close()
        task, self.task = self.task, None
        if task is not None:
            task.fail(UnavailableError("The daemon is stopping.", retry_after_seconds=1))

    def _hear(self, child: Child[Said], message: Said) -> None:
        match message:
            case Idle() if self.state is SeatState.STARTING:
                self._enter(SeatState.READY)
                log.debug("media process ready", pid=child.pid)
                self._on_free()
            case Done() | Refused() if self.task is not None and self.task.number == message.number:
                self._finish(child, self.task, message)
            case _ if self.state is not SeatState.LEAVING:
                self._dismiss("it said what it was not asked")

    def _finish(self, child: Child[Said], task: Task, message: Done | Refused) -> None:
        match message:
            case Done():
                try:
                    pixels = self._pixels(child, message)
                except ProtocolError as error:
                    self._dismiss(str(error))
                    return
                task.settle(pixels)
            case Refused():
                log.debug("image refused", reason=message.message, detail=message.detail, **task.bound)
                task.fail(InvalidRequestError(message.message, param=task.param, code=message.code))
        self.task = None
        self._idle_deaths = 0
        if self._given_at is not None:
            self.last_seconds = self._clock() - self._given_at
        if message.leaving:
            self._enter(SeatState.LEAVING)
            self._call_later(self._leave_seconds, child.kill)
        else:
            self._enter(SeatState.READY)
            self._on_free()

    def _pixels(self, child: Child[Said], message: Done) -> Pixels:
        spec = self._begin.spec
        return Pixels(child.take_fd(), digest=message.digest, height=spec.height, width=spec.width)

    def _overrun(self, seconds: float) -> None:
        """The picture's time is over: it fails now, and its process, which may hang for good, goes."""
        assert self.task is not None
        message = f"The image took longer than {seconds:g} seconds to fetch and decode."
        self.task.fail(InvalidRequestError(message, param=self.task.param, code="image_parse_error"))
        self._dismiss("it took too long over an image")

    def _dismiss(self, reason: str) -> None:
        """Kill the process for something it did."""
        assert self._child is not None
        log.warning("media process killed", pid=self._child.pid, reason=reason, **self._bound)
        self._fail_task()
        self._enter(SeatState.LEAVING)
        self._child.kill()

    def _replace(self, child: Child[Said], reason: str) -> None:
        """The process is dead and reaped."""
        was, self._child = self.state, None
        self._enter(SeatState.EMPTY)
        if was is not SeatState.LEAVING:
            self.deaths += 1
            over_an_image = self.task is not None
            log.warning("media process died", pid=child.pid, reason=reason, over_an_image=over_an_image, **self._bound)
        self._fail_task()
        if self._given_at is None:
            self._start_later(reason)
        else:
            self.start()

    def _start_later(self, reason: str) -> None:
        pause = min(FIRST_PAUSE_SECONDS * 2**self._idle_deaths, LONGEST_PAUSE_SECONDS)
        self._idle_deaths += 1
        log.warning("media process waits to be started again", reason=reason, pause_seconds=pause)
        self._call_later(pause, self.start)

    @property
    def _bound(self) -> dict[str, str]:
        return {} if self.task is None else self.task.bound

    def _fail_task(self) -> None:
        task, self.task = self.task, None
        if task is not None:
            message = "The image could not be decoded (the decoder ran out of memory or crashed)."
            task.fail(InvalidRequestError(message, param=task.param, code="image_parse_error"))

    def _enter(self, state: SeatState) -> None:
        """The only place that changes the state. A timer belongs to the state that set it."""
        self.state = state
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _call_later(self, seconds: float, callback: Callable[..., None], *args: object) -> None:
        loop = asyncio.get_running_loop()
        # Its own context: it may be set while one request is served, and be about the picture of another.
        self._timer = loop.call_later(seconds, callback, *args, context=contextvars.Context())
