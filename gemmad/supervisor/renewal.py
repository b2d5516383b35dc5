"""Renews workers while they serve, one at a time. What is decided is decided in `recycle`; here it is done."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping

from gemmad.config.schema import RecycleSection
from gemmad.logs import get_logger
from gemmad.supervisor.lifecycle import State
from gemmad.supervisor.place import FALLEN, Place
from gemmad.supervisor.recycle import Candidate, Reason, Why, choose, due_in_seconds, reason_to_renew
from gemmad.supervisor.worker import Worker

ASKED = Reason(Why.ASKED, "it was asked for")
SETTINGS = Reason(Why.SETTINGS, "the settings have changed")
COMING = frozenset({State.STARTING, State.WAITING, State.BACKOFF})
LOOK_SECONDS = 5.0
"""Growth, and settings that changed, are noticed so late at most."""

log = get_logger("gemmad.supervisor")


@dataclasses.dataclass(frozen=True)
class Renewal:
    """One that is under way."""

    place: Place
    life: int
    """The last one of before."""
    reason: Reason
    beside: bool
    began_at: float


class Renewals:
    """Over the places of a pool. `room_beside` tells whether a place holds two lives, or None: ask again soon."""

    def __init__(
        self,
        places: Mapping[str, Place],
        *,
        section: Callable[[], RecycleSection],
        room_beside: Callable[[Place], bool | None],
        hire_beside: Callable[[Place], Worker],
        clock: Callable[[], float],
        wall: Callable[[], float],
    ) -> None:
        self._places = places
        self._section = section
        self._room_beside = room_beside
        self._hire_beside = hire_beside
        self._clock = clock
        self._wall = wall
        self._current: Renewal | None = None

    @property
    def current(self) -> Renewal | None:
        """The one that is under way."""
        return self._current

    def step(self, *, begin: bool = True) -> float:
        """Do what is due; how many seconds later to look again, if nothing changes before. Without `begin` what is
        under way is brought to its end only."""
        now = self._clock()
        for place in self._places.values():
            place.settle(now=now, grace_seconds=self._section().grace)
        if self._current is not None and self._is_over(self._current):
            current, self._current = self._current, None
            self._count(current)
            log.info("worker recycled", worker=current.place.seat.name, seconds=round(now - current.began_at, 3))
        if self._current is None and begin:
            self._begin_next()
        return LOOK_SECONDS if self._current is not None else self._pause_seconds()

    def next_at(self, place: Place) -> float | None:
        """When the clock will renew the life that serves there; None: never, or none does."""
        tenure = place.worker.tenure(growths=place.growths)
        due = None if tenure is None else due_in_seconds(tenure, self._section(), wall=self._wall())
        return None if due is None else self._clock() + max(0.0, due[0])

    def _begin_next(self) -> None:
        chosen = choose([self._candidate(name, place) for name, place in self._places.items()])
        if chosen is None:
            return
        assert chosen.reason is not None
        place, grace_seconds, now = self._places[chosen.name], self._section().grace, self._clock()
        self._current = Renewal(place, place.lives, chosen.reason, chosen.beside, now)
        log.info("worker is recycled", worker=chosen.name, reason=chosen.reason.words, beside=chosen.beside)
        place.note_renewal(chosen.reason, now=now)
        if chosen.beside:
            place.renew_beside(self._hire_beside(place))
        else:
            place.renew(grace_seconds)

    def _candidate(self, name: str, place: Place) -> Candidate:
        worker = place.worker
        reason = None if place.held else self._reason(place)
        beside = None if reason is None else self._room_beside(place)
        return Candidate(
            name=name,
            ready=worker.state is State.READY,
            coming=not place.held and worker.state in COMING and worker.waits_for != "gpu",
            reason=None if beside is None else reason,  # as long as nobody knows, it is not its turn
            beside=bool(beside),
            renewed_at=place.recycled_at,
        )

    def _reason(self, place: Place) -> Reason | None:
        tenure = place.worker.tenure(growths=place.growths)
        if tenure is None:
            return None
        if place.asked:
            return ASKED
        if self._clock() < place.not_before:
            return None
        place.outdated = place.outdated and place.worker.settings_changed()
        return SETTINGS if place.outdated else reason_to_renew(tenure, self._section(), wall=self._wall())

    def _is_over(self, renewal: Renewal) -> bool:
        place, worker = renewal.place, renewal.place.worker
        if self._places.get(place.seat.name) is not place:
            return True
        if place.heir is not None or place.leaving:
            return False
        if renewal.beside or worker.state in FALLEN or worker.waits_for == "gpu":
            return True
        begun = place.lives > renewal.life
        return (begun and worker.state is State.READY) or (place.held and worker.state is State.STOPPED)

    def _count(self, renewal: Renewal) -> None:
        """One that somebody put an end to by a drain, or whose seat is gone, neither worked nor failed."""
        place, worker = renewal.place, renewal.place.worker
        if place.held or self._places.get(place.seat.name) is not place:
            return
        worked = worker.life > renewal.life and worker.state not in FALLEN
        place.tally.note_recycle(renewal.reason.why, worked=worked)

    def _pause_seconds(self) -> float:
        now = self._clock()
        due = [self.next_at(place) for place in self._places.values()]
        return max(0.0, min([LOOK_SECONDS, *(moment - now for moment in due if moment is not None and moment > now)]))
