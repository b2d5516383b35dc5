"""Who must run alone, and where: one after another, so that no more than one worker is at risk at a time."""

from __future__ import annotations

from collections.abc import Collection

from gemmad.dispatch.blame import Treatment
from gemmad.dispatch.desk import Desk
from gemmad.dispatch.entry import Entry

PATIENCE_SECONDS = 5.0
"""How long a suspect waits for a desk that happens to be empty (most likely the next life of the one that it lost),
before one is kept free for it."""


class Quarantine:
    """Suspects that are on no desk, first come, first served."""

    def __init__(self) -> None:
        self._since: dict[Entry, float] = {}
        self._kept_free: Desk | None = None

    def __len__(self) -> int:
        return len(self._since)

    def __contains__(self, entry: Entry) -> bool:
        return entry in self._since

    def join(self, entry: Entry, *, now: float) -> None:
        """It must run alone, or wait for a verdict."""
        self._since[entry] = now

    def leave(self, entry: Entry) -> None:
        """It need not, or is not here at all."""
        self._since.pop(entry, None)
        if not self._since:
            self._keep_free(None)

    def take_next(self, desks: Collection[Desk], *, now: float) -> tuple[Entry, Desk] | None:
        """Who is to run alone now, and the empty desk, which takes nobody else from here on; None as long as somebody
        else runs alone, or no desk is empty."""
        if any(desk.trial is not None for desk in desks):
            return None
        suspect = next((entry for entry in self._since if entry.record.treatment() is Treatment.ALONE), None)
        if suspect is None:
            self._keep_free(None)
            return None
        there = [desk for desk in desks if not desk.leaving]
        empty = next((desk for desk in there if not desk.entries), None)
        if empty is not None:
            self.leave(suspect)
            self._keep_free(None)
            empty.trial = suspect
            return suspect, empty
        if there and self._kept_free not in there and now - self._since[suspect] >= PATIENCE_SECONDS:
            self._keep_free(min(there, key=lambda desk: len(desk.entries)))
        return None

    def _keep_free(self, desk: Desk | None) -> None:
        if self._kept_free is not None:
            self._kept_free.reserved = False
        self._kept_free = desk
        if desk is not None:
            desk.reserved = True
