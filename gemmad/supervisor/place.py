"""A seat with the worker that sits there and, during a renewal, the one that will."""

from __future__ import annotations

from gemmad.logs import get_logger
from gemmad.supervisor.lifecycle import AT_REST, State
from gemmad.supervisor.recycle import Reason, failed_pause_seconds, growths_after
from gemmad.supervisor.seat import Seat
from gemmad.supervisor.tally import Tally
from gemmad.supervisor.wishes import Drain, Inherit, Restart, Retire, Start, Stop
from gemmad.supervisor.worker import Worker

FALLEN = frozenset({State.BACKOFF, State.FAILED})

log = get_logger("gemmad.supervisor")


class Place:
    """The pool's notes about one seat. It moves no worker; it wishes."""

    def __init__(self, seat: Seat, *, tally: Tally) -> None:
        """`tally` is that of all places of this name, so that numbers are not used twice and sums go on."""
        self.seat = seat
        self.tally = tally
        self.worker: Worker
        """Who sits there. Set once, by whoever made the place."""
        self.heir: Worker | None = None
        """Who will, once it is ready."""
        self.leaving: set[Worker] = set()
        """Who did, or was to, and is not gone yet."""
        self.held = False
        """It was drained to stay away."""
        self.asked = False
        """Somebody wants it renewed."""
        self.outdated = False
        """Its life may have begun with settings that are not in force any more."""
        self.growths = 0
        self.failures = 0
        """Renewals in a row whose new life did not get ready."""
        self.not_before = 0.0
        """When the next renewal may be tried."""
        self.last_recycle: str | None = None
        self.recycled_at = 0.0

    @property
    def lives(self) -> int:
        """How many were begun here."""
        return self.tally.lives

    def workers(self) -> tuple[Worker, ...]:
        """All who are here."""
        heirs = () if self.heir is None else (self.heir,)
        return (self.worker, *heirs, *self.leaving)

    def ready(self) -> bool:
        """Whether requests are taken here."""
        return any(worker.state is State.READY for worker in (self.worker, self.heir) if worker is not None)

    def want(self) -> None:
        """Wish for what it should be."""
        if not self.held:
            if self.heir is None:  # else that one is its next life
                self.worker.wish(Start())
        elif self.worker.state in FALLEN | {State.WAITING}:
            self.worker.wish(Stop())

    def drain(self, grace_seconds: float) -> None:
        """Nobody is to be here."""
        self.held, self.asked = True, False
        self.worker.wish(Drain(grace_seconds))
        self.give_up_heir()

    def renew(self, grace_seconds: float) -> None:
        """Let the worker finish; its next life follows, or its heir, if there is one."""
        if self.heir is None or self.worker.state not in AT_REST:
            self.worker.wish(Restart(grace_seconds))

    def renew_beside(self, heir: Worker) -> None:
        """Let its next life get ready first."""
        self.heir = heir
        heir.wish(Start())

    def retire(self, grace_seconds: float) -> None:
        """All actors end."""
        for worker in self.workers():
            worker.wish(Retire(grace_seconds))

    def settle(self, *, now: float, grace_seconds: float) -> None:
        """Hand the place over once its heir is ready, or as soon as nobody else is there; give an heir up that fell."""
        heir = self.heir
        if heir is None:
            return
        if heir.state in FALLEN:
            self.failures += 1
            self.not_before = now + failed_pause_seconds(self.failures)
            reason = heir.status().last_error
            self.last_recycle = f"failed: {reason}"
            log.error("worker not recycled, it stays", worker=self.seat.name, reason=reason)
            self.give_up_heir()
        elif heir.state is State.READY or self.worker.state in FALLEN | {State.STOPPED}:
            before, self.worker, self.heir = self.worker, heir, None
            self.leaving.add(before)
            before.wish(Retire(grace_seconds))
            if before.state in FALLEN:
                heir.wish(Inherit(before.history.record, before.history.last_error))
            if heir.state is State.READY:
                self.failures = 0

    def note_renewal(self, reason: Reason, *, now: float) -> None:
        """It is renewed for this."""
        self.asked = False
        self.recycled_at = now
        tenure = self.worker.tenure(growths=self.growths)
        self.growths = growths_after(tenure, reason.why) if tenure is not None else 0
        self.last_recycle = reason.words

    def give_up_heir(self) -> None:
        """Whoever sits there stays."""
        if self.heir is not None:
            heir, self.heir = self.heir, None
            self.leaving.add(heir)
            heir.wish(Retire())
