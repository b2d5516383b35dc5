"""The worker's three threads: inbox → engine.step() → outbox. The step loop is the only one that touches the engine.

Heartbeats come from the step loop itself: a loop that stops is hung, whatever the other threads do.
"""

from __future__ import annotations

import contextlib
import gc
import os
import queue
import signal
import sys
import threading
import time
from pathlib import Path
from typing import assert_never

import msgspec

from gemmad.engine.build import build_engine
from gemmad.errors import InvalidRequestError
from gemmad.generation import MemoryRow
from gemmad.logs import get_logger
from gemmad.models.copies import CodedCopies
from gemmad.planning.table import rows_text
from gemmad.protocol.channel import BlockingChannel
from gemmad.protocol.messages import (
    EXIT_ASKED,
    PROTOCOL_VERSION,
    Abort,
    Configure,
    Drain,
    Heartbeat,
    Loading,
    Ready,
    Rejected,
    Shutdown,
    Stepped,
    Submit,
    ToWorker,
)
from gemmad.worker.images import map_pictures
from gemmad.worker.stages import StageClock

HEARTBEAT_SECONDS = 0.5
FLUSH_SECONDS = 5.0
"""Time for the daemon to read what was said before the worker ends."""
OUTBOX_FRAMES = 256
"""Frames that may wait for the daemon to read them; then the step loop waits too, instead of growing."""

_log = get_logger(__name__)


class WorkerLoop:
    """One life of a worker, from Configure to its exit code."""

    def __init__(self, channel: BlockingChannel[ToWorker], configure: Configure, *, started: float) -> None:
        self._channel = channel
        self._settings = configure.settings
        self._started = started
        self._stages = StageClock(started=started)
        self._inbox: queue.SimpleQueue[tuple[ToWorker, list[int]]] = queue.SimpleQueue()
        self._outbox: queue.Queue[msgspec.Struct | None] = queue.Queue(OUTBOX_FRAMES)
        self._writer_done = threading.Event()
        self._draining = False
        self._next_heartbeat = 0.0
        self._checked_at = 0
        """The step after which the books were last looked at."""
        self._step = 0
        folder = configure.settings.coded_copies
        self._copies = None if folder is None else CodedCopies(Path(folder))

    def run(self) -> int:
        """Load, warm up, serve. Raises CheckpointError or MemoryPlanError for settings that cannot work."""
        for target in (self._read, self._write):
            threading.Thread(target=target, name=target.__name__.strip("_"), daemon=True).start()
        signal.signal(signal.SIGTERM, lambda *_: self._inbox.put((Shutdown(), [])))
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the daemon's to handle
        try:
            self._load()
            self._serve()
        finally:  # also before last words: what was said must be heard first
            if self._copies is not None:
                self._copies.end()
            with contextlib.suppress(queue.Full):
                self._outbox.put(None, timeout=FLUSH_SECONDS)
            self._writer_done.wait(FLUSH_SECONDS)
            if self._copies is not None:
                self._copies.close()
        return EXIT_ASKED

    def _load(self) -> None:
        self._engine = build_engine(
            self._settings,
            progress=self._report,
            on_plan=lambda plan: _print_table(plan.rows),
            copies=self._copies,
        )
        self._report("warm-up", 0.0)
        self._engine.warm_up()
        memory = self._engine.memory.measure()
        _print_table(memory)
        gc.collect()
        gc.freeze()  # what is loaded stays; collecting it again and again would cost steps
        gc.enable()
        _log.info("worker loaded", **self._stages.seconds())
        self._outbox.put(Ready(self._engine.capacity, os.getpid(), time.monotonic() - self._started, memory))
        self._engine.warm_grammars()  # a second, in which nobody waits for it

    # --- the step loop ----------------------------------------------------------------------------------------------

    def _serve(self) -> None:
        while True:
            self._beat()
            if not self._take_messages():
                return
            if not self._engine.idle:
                self._step += 1
                outputs = self._engine.step()
                if outputs:
                    self._outbox.put(Stepped(self._step, outputs))
                for request_id, reason in self._engine.take_refused():
                    self._outbox.put(Rejected(request_id, reason))
            elif self._draining:
                return

    def _beat(self) -> None:
        now = time.monotonic()
        if now >= self._next_heartbeat:
            self._next_heartbeat = now + HEARTBEAT_SECONDS
            if self._engine.idle and self._checked_at != self._step:
                self._checked_at = self._step
                self._engine.check()
            self._outbox.put(Heartbeat(self._engine.load()))

    def _take_messages(self) -> bool:
        """Handle what has come; an idle loop waits for it. False: stop now."""
        try:
            block = self._engine.idle and not self._draining
            message, fds = self._inbox.get(block=block, timeout=HEARTBEAT_SECONDS if block else None)
            while self._handle(message, fds):
                message, fds = self._inbox.get_nowait()
        except queue.Empty:
            return True
        return False

    def _handle(self, message: ToWorker, fds: list[int]) -> bool:
        match message:
            case Submit():
                self._submit(message, fds)
            case Abort(request_id):
                self._engine.abort(request_id)
            case Drain():
                self._draining = True
            case Shutdown():
                return False
            case Configure():
                raise AssertionError("a second Configure")
            case _:
                assert_never(message)
        return True

    def _submit(self, submit: Submit, fds: list[int]) -> None:
        try:
            height, width = self._engine.picture_size
            pixels = map_pictures(fds, height=height, width=width)
            self._engine.add(
                submit.request_id, submit.prompt, submit.sampling, generated=submit.generated, pixels=pixels
            )
        except (InvalidRequestError, ValueError) as error:
            self._outbox.put(Rejected(submit.request_id, str(error)))

    def _report(self, stage: str, fraction: float) -> None:
        self._stages.enter(stage)
        now = time.monotonic()
        if fraction in (0.0, 1.0) or now >= self._next_heartbeat:
            self._next_heartbeat = now + HEARTBEAT_SECONDS
            self._outbox.put(Loading(PROTOCOL_VERSION, stage, fraction))

    # --- the threads beside it ----------------------------------------------------------------------------------------

    def _read(self) -> None:
        """Inbox. The daemon's end of file, or garbage from it, ends the worker: it can serve nobody any more."""
        try:
            while (message := self._channel.receive()) is not None:
                fds = self._channel.take_fds(len(message.prompt.images)) if isinstance(message, Submit) else []
                self._inbox.put((message, fds))
        finally:
            self._inbox.put((Shutdown(), []))
            # The step loop may sit in a long kernel; without a daemon there is nothing to wait for.
            threading.Timer(FLUSH_SECONDS, os._exit, (EXIT_ASKED,)).start()

    def _write(self) -> None:
        try:
            while (message := self._outbox.get()) is not None:
                self._channel.send(message)
        except OSError:
            os._exit(EXIT_ASKED)  # the daemon is gone
        finally:
            self._writer_done.set()


def _print_table(rows: tuple[MemoryRow, ...]) -> None:
    """For people; the daemon's log shows it line by line."""
    sys.stderr.write(f"memory of this worker\n{rows_text(rows)}\n")
    sys.stderr.flush()
