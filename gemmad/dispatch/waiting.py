"""Everybody who is on no desk: who has the next turn, and at which one."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from gemmad.dispatch.blame import Treatment
from gemmad.dispatch.desk import Desk
from gemmad.dispatch.entry import Entry
from gemmad.dispatch.line import Account, Line
from gemmad.dispatch.policy import choose, may_wait
from gemmad.dispatch.quarantine import Quarantine
from gemmad.dispatch.ticket import Request


class WaitingRoom:
    """The line, and beside it the quarantine of those who must run alone."""

    def __init__(self) -> None:
        self._line: Line[Entry] = Line()
        self._quarantine = Quarantine()

    def __len__(self) -> int:
        return len(self._line) + len(self._quarantine)

    def has_room(self, request: Request, *, wanted: int, desks: Collection[Desk], max_waiting: int) -> bool:
        """Whether `wanted` requests like this can be served at once, or may wait."""
        if not self._line:
            wanted = max(0, wanted - sum(desk.free_places for desk in desks))
        of_key = self.waiting_of(request.key)
        return may_wait(waiting=len(self), waiting_of_key=of_key, wanted=wanted, max_waiting=max_waiting)

    def waiting_of(self, key: str) -> int:
        """How many of a key wait for their first turn."""
        return self._line.waiting_of(key)

    def turns_before(self, request: Request) -> int:
        """How many would have their turn before it, if it came now."""
        return len(self._quarantine) + self._line.turns_before(request.key, priority=request.priority)

    def open(self, key: str) -> Account:
        """The account of a key, for one more request."""
        return self._line.open(key)

    def enter(self, entry: Entry) -> None:
        """It is new."""
        self._line.join(entry, entry.account, priority=entry.ticket.request.priority)

    def come_back(self, entries: Sequence[Entry], *, now: float) -> None:
        """They were on a desk. They have their turns before all who are new, in this order, or run alone."""
        for entry in entries:
            if entry.record.treatment() is not Treatment.WITH_OTHERS:
                self._quarantine.join(entry, now=now)
        for entry in reversed(entries):  # each to the head, so the first stays first
            if entry not in self._quarantine:
                self._line.join_ahead(entry)

    def reconsider(self, entry: Entry) -> None:
        """Its record is better than when it came, if it is here at all."""
        if entry in self._quarantine and entry.record.treatment() is Treatment.WITH_OTHERS:
            self._quarantine.leave(entry)
            self._line.join_ahead(entry)

    def end(self, entry: Entry) -> None:
        """It has ended, here or on a desk."""
        self._line.leave(entry)
        self._quarantine.leave(entry)
        self._line.settle(entry.account)

    @property
    def has_suspects(self) -> bool:
        """Whether somebody waits to run alone."""
        return bool(self._quarantine)

    def take_next(self, desks: Collection[Desk], *, now: float) -> tuple[Entry, Desk] | None:
        """Whoever has the next turn, and the desk; None as long as nobody waits or none has room."""
        if self._quarantine:
            alone = self._quarantine.take_next(desks, now=now)
            if alone is not None:
                return alone
        if not self._line:
            return None
        free = [desk for desk in desks if desk.free_places]
        if not free:
            return None
        entry = self._line.take_next()
        return entry, _beside_siblings(entry, free) or _least_busy(entry, free)


def _beside_siblings(entry: Entry, desks: Sequence[Desk]) -> Desk | None:
    """Where another choice of its request is, if it would be computed at once there."""
    if len(entry.siblings) < 2:
        return None
    theirs = {sibling.desk for sibling in entry.siblings}
    return next((desk for desk in desks if desk in theirs and desk.has_idle_sequence), None)


def _least_busy(entry: Entry, desks: Sequence[Desk]) -> Desk:
    desk = choose([desk.standing_for(entry) for desk in desks], prompt_tokens=entry.tokens)
    assert desk is not None  # they have room
    return desk
