"""New settings for all workers: one tries them first. If it gets ready the others follow, if not nobody keeps them.

The one that tries is the canary. Where there is room it gets ready beside the worker that serves, which stays if it
does not; where there is none the worker makes way, and comes back with the old settings. Ready means that it has
served its warm-up requests.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping

from gemmad.generation import EngineSettings
from gemmad.logs import get_logger
from gemmad.supervisor.lifecycle import AT_REST, State
from gemmad.supervisor.place import Place
from gemmad.supervisor.recycle import Candidate, choose
from gemmad.supervisor.renewal import COMING, SETTINGS
from gemmad.supervisor.seat import Seat
from gemmad.supervisor.worker import Worker

SettingsOf = Callable[[Seat], EngineSettings]
Ended = Callable[[str | None], None]
"""None: the settings are good and have to be in force when this returns; else why they are not."""

log = get_logger("gemmad.supervisor")


@dataclasses.dataclass(frozen=True)
class _Wanted:
    settings: SettingsOf
    ended: Ended


@dataclasses.dataclass(frozen=True)
class _Canary:
    place: Place
    worker: Worker
    life: int
    """The last one of before."""


class Trial:
    """At most one at a time, over the places of a pool. The callables are those of `Renewals`; `in_force` are the
    settings that every other worker gets."""

    def __init__(
        self,
        places: Mapping[str, Place],
        *,
        in_force: SettingsOf,
        room_beside: Callable[[Place], bool | None],
        hire_beside: Callable[[Place], Worker],
        grace_seconds: Callable[[], float],
        clock: Callable[[], float],
    ) -> None:
        self._places = places
        self._in_force = in_force
        self._room_beside = room_beside
        self._hire_beside = hire_beside
        self._grace_seconds = grace_seconds
        self._clock = clock
        self._wanted: _Wanted | None = None
        self._canary: _Canary | None = None

    @property
    def wanted(self) -> bool:
        """Whether there are settings that nobody has tried to the end."""
        return self._wanted is not None

    @property
    def place(self) -> Place | None:
        """The canary's."""
        return None if self._canary is None else self._canary.place

    def settings(self, seat: Seat) -> EngineSettings:
        """Those of the next life on this seat."""
        mine = self._canary is not None and self._canary.place.seat == seat
        return self.planned(seat) if mine else self._in_force(seat)

    def planned(self, seat: Seat) -> EngineSettings:
        """The same, if this seat had the canary or there were none."""
        return self._in_force(seat) if self._wanted is None else self._wanted.settings(seat)

    def want(self, settings: SettingsOf, *, ended: Ended) -> None:
        """Try these. Whatever else is being tried is given up, and its `ended` is not called."""
        former, self._wanted = self._canary, None
        if former is not None:
            self._canary = None
            _step_back(former)
        self._wanted = _Wanted(settings, ended)

    def step(self) -> None:
        """Do what is due, at a moment at which no worker is being renewed."""
        if self._wanted is None:
            return
        if self._canary is None:
            self._begin(self._wanted)
        else:
            self._judge(self._wanted, self._canary)

    def _begin(self, wanted: _Wanted) -> None:
        able = [place for place in self._places.values() if not place.held and place.worker.waits_for != "gpu"]
        if not able or all(wanted.settings(place.seat) == self._in_force(place.seat) for place in able):
            self._put_in_force(wanted)  # nobody can try them, or there is nothing to try
            return
        serving = any(place.worker.state is State.READY for place in able)
        candidates = [self._candidate(place) for place in able] if serving else []
        if None in candidates:
            return  # whether there is room is being looked at
        known = [candidate for candidate in candidates if candidate is not None]
        chosen = choose([candidate for candidate in known if candidate.beside]) or choose(known)
        if chosen is not None:
            self._send(self._places[chosen.name], beside=chosen.beside)
        elif not serving:
            self._send(able[0], beside=False)

    def _candidate(self, place: Place) -> Candidate | None:
        ready = place.worker.state is State.READY
        beside = self._room_beside(place) if ready else False
        if beside is None:
            return None
        return Candidate(
            name=place.seat.name,
            ready=ready,
            coming=place.worker.state in COMING,
            reason=SETTINGS if ready else None,
            beside=beside,
            renewed_at=place.recycled_at,
        )

    def _send(self, place: Place, *, beside: bool) -> None:
        log.info("new settings are tried", worker=place.seat.name, beside=beside)
        life = place.lives
        place.note_renewal(SETTINGS, now=self._clock())
        if beside:
            self._canary = _Canary(place, self._hire_beside(place), life)
            place.renew_beside(self._canary.worker)
        else:
            self._canary = _Canary(place, place.worker, life)
            place.renew(self._grace_seconds() if place.ready() else 0.0)

    def _judge(self, wanted: _Wanted, canary: _Canary) -> None:
        place, worker = canary.place, canary.worker
        begun = worker.life > canary.life
        if self._places.get(place.seat.name) is not place:
            self._fail(wanted, canary, "its seat was taken away")
        elif place.held:
            self._fail(wanted, canary, "it was drained meanwhile")
        elif begun and worker.state is State.READY:
            log.info("new settings work", worker=place.seat.name)
            place.tally.note_recycle(SETTINGS.why, worked=True)
            self._put_in_force(wanted)
        elif begun and worker.state in AT_REST:
            self._fail(wanted, canary, worker.history.last_error or "it ended")
        elif worker.waits_for == "gpu":
            self._fail(wanted, canary, "its GPU is not there")

    def _put_in_force(self, wanted: _Wanted) -> None:
        proven, now = self.place, self._clock()
        wanted.ended(None)
        self._wanted = self._canary = None
        for place in self._places.values():
            place.outdated, place.not_before = place is not proven, now

    def _fail(self, wanted: _Wanted, canary: _Canary, reason: str) -> None:
        name = canary.place.seat.name
        if not canary.place.held and self._places.get(name) is canary.place:
            canary.place.tally.note_recycle(SETTINGS.why, worked=False)
        log.error("new settings are taken back", worker=name, reason=reason)
        self._wanted = self._canary = None
        canary.place.last_recycle = f"failed: {reason}"
        canary.place.not_before = self._clock()
        _step_back(canary)
        wanted.ended(f"worker {name} did not get ready with it: {reason}")


def _step_back(canary: _Canary) -> None:
    """Whoever tried goes, or begins anew; its settings are not those of the trial any more."""
    place = canary.place
    if place.heir is canary.worker:
        place.give_up_heir()
    elif place.worker is canary.worker and not place.held:
        place.renew(0.0)
