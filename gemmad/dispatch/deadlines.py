"""How long requests may wait, and take."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable

from gemmad.dispatch.entry import Entry


class Deadlines:
    """One timer for each entry: for its next token while it waits for one, else for its end."""

    def __init__(self, *, clock: Callable[[], float], expire: Callable[[Entry], None]) -> None:
        """`expire` is called when an entry's time is over; `awaits_token` tells which one."""
        self._clock = clock
        self._expire = expire

    def await_token(self, entry: Entry, *, max_wait: float) -> None:
        """From queueing to the next token, `max_wait` seconds at most."""
        until = self._clock() + max_wait
        entry.awaits_token = until < entry.timeout_at
        self._arm(entry, min(until, entry.timeout_at))

    def await_end(self, entry: Entry) -> None:
        """From a token to the end."""
        if entry.awaits_token:
            entry.awaits_token = False
            self._arm(entry, entry.timeout_at)

    def cancel(self, entry: Entry) -> None:
        """It has ended."""
        if entry.timer is not None:
            entry.timer.cancel()
            entry.timer = None

    def _arm(self, entry: Entry, when: float) -> None:
        self.cancel(entry)
        delay = max(0.0, when - self._clock())
        loop = asyncio.get_running_loop()
        # Its own context: what follows from it is about other requests than the one that is served just now.
        entry.timer = loop.call_later(delay, self._expire, entry, context=contextvars.Context())
