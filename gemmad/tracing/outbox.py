"""Spans on their way out: a bounded queue and the thread that empties it.

Whoever puts something in never waits. A receiver that is dead or slow costs the spans that find the queue full, and one
line in the log when that begins and one when it is over.
"""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Callable, Sequence

from gemmad.logs import get_logger
from gemmad.tracing.span import Told

log = get_logger("gemmad.tracing")


class Outbox:
    """`put` from one thread, then `close`, always."""

    def __init__(
        self,
        send: Callable[[Sequence[Told]], str | None],
        *,
        limit: int = 1024,
        most_at_once: int = 16,
        linger_seconds: float = 1.0,
    ) -> None:
        """`send` runs in the thread and returns why nothing was taken, or None. `limit` is the requests that may wait;
        the first of them waits `linger_seconds` for company. Batches are small, for while one is encoded the
        event loop does not get the interpreter."""
        self._send = send
        self._most_at_once = most_at_once
        self._linger_seconds = linger_seconds
        self._queue: queue.Queue[Told | None] = queue.Queue(limit)
        self._closing = threading.Event()
        self._given_up = threading.Event()
        self._refused = False
        """The last batch was not taken."""
        self._lost = 0
        """Requests whose spans were not taken since the last time that some were."""
        self._dropped = 0
        """Requests that found the queue full; only `put` writes it."""
        self._dropped_told = 0
        self._thread = threading.Thread(target=self._work, name="tracing", daemon=True)
        self._thread.start()

    def put(self, told: Told) -> None:
        """Send it soon, if there is room."""
        try:
            self._queue.put_nowait(told)
        except queue.Full:
            self._dropped += 1

    @property
    def dropped(self) -> int:
        """Requests whose spans found no room."""
        return self._dropped

    def close(self, *, seconds: float) -> None:
        """Send what is there, for `seconds` at most; what is left then is lost."""
        self._closing.set()
        with contextlib.suppress(queue.Full):  # then the thread does not sleep
            self._queue.put_nowait(None)
        self._thread.join(seconds)
        if self._thread.is_alive():
            self._given_up.set()
            log.warning("spans are lost, the collector is too slow", requests=self._queue.qsize())

    def _work(self) -> None:
        while not self._given_up.is_set():
            batch = self._take()
            if batch:
                self._deliver(batch)
            elif self._closing.is_set():
                return

    def _take(self) -> list[Told]:
        """What is there, once something is; empty when it is being closed."""
        batch: list[Told] = []
        until: float | None = None
        while len(batch) < self._most_at_once:
            try:
                told = self._next(until)
            except queue.Empty:
                break
            if told is None:
                break
            batch.append(told)
            until = until or time.monotonic() + self._linger_seconds
        return batch

    def _next(self, until: float | None) -> Told | None:
        if self._closing.is_set():
            return self._queue.get_nowait()
        if until is None:
            return self._queue.get()
        return self._queue.get(timeout=max(0.0, until - time.monotonic()))

    def _deliver(self, batch: Sequence[Told]) -> None:
        reason = self._send(batch)
        dropped = self._dropped
        self._lost += dropped - self._dropped_told + (0 if reason is None else len(batch))
        self._dropped_told = dropped
        if reason is not None and not self._refused:
            log.warning("spans are not taken", reason=reason)
        elif reason is None and self._lost:
            log.warning("spans were lost", requests=self._lost)
            self._lost = 0
        self._refused = reason is not None
