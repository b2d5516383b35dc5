"""All workers of the daemon: who is wanted, and that who is wanted runs.

The pool holds no state of a worker; it holds places, and wishes. `reconcile` turns them into requests to the actors and
may be called at any time, by anyone, as often as they like.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import Callable, Sequence

import msgspec

from gemmad.config.schema import RecycleSection, WorkersSection
from gemmad.errors import ConfigError
from gemmad.generation import EngineSettings
from gemmad.logs import get_logger
from gemmad.supervisor.child import Spawn
from gemmad.supervisor.gpus import Gpus
from gemmad.supervisor.lifecycle import AT_REST, State
from gemmad.supervisor.listener import Listener, Outlook, WorkerHandle
from gemmad.supervisor.place import Place
from gemmad.supervisor.renewal import LOOK_SECONDS, Renewals
from gemmad.supervisor.room import fits_beside
from gemmad.supervisor.seat import Seat
from gemmad.supervisor.surroundings import Host, Surroundings
from gemmad.supervisor.tally import Tally
from gemmad.supervisor.trial import Trial
from gemmad.supervisor.watch import GpuWatch, Urgency
from gemmad.supervisor.wishes import Looked, WorkerStatus
from gemmad.supervisor.worker import Worker

__all__ = ["Listener", "Outlook", "Pool", "Seat", "State", "WorkerHandle", "WorkerStatus"]

DRAIN_SECONDS = 600.0
"""How long a worker may finish what it has; then its requests go on elsewhere."""
RECENT_SECONDS = 3.0
"""How old a look at a GPU may be when its memory is counted on; never older than the life that serves there."""

log = get_logger("gemmad.supervisor")


class Pool:
    """One place for each seat, under one TaskGroup."""

    def __init__(
        self,
        seats: Sequence[Seat],
        *,
        section: Callable[[], WorkersSection],
        settings: Callable[[Seat], EngineSettings],
        listener: Listener,
        spawn: Spawn,
        recycle: Callable[[], RecycleSection] = RecycleSection,
        watch: GpuWatch | None = None,
        host: Host | None = None,
    ) -> None:
        """`watch` looks at the GPUs for those who wait, and says which seats there are from then on; without it the
        seats stay, and nobody waits."""
        self._listener = listener
        self._watch = watch
        self._host = host = host or Host()
        self._places: dict[str, Place] = {}
        self._tallies: dict[str, Tally] = {}
        """By name of the seat, those that were taken away too."""
        self._trial = Trial(
            self._places,
            in_force=settings,
            room_beside=self._room_beside,
            hire_beside=lambda place: self._hire(place, predecessor=place.worker),
            grace_seconds=lambda: recycle().grace,
            clock=host.clock,
        )
        self._around = Surroundings(
            section=section,
            settings=self._trial.settings,
            listener=listener,
            spawn=spawn,
            host=host,
            changed=self.reconcile,
            looks=watch is not None,
        )
        self._former: list[Place] = []
        """Places that are given up and whose workers are not all gone."""
        self._renewals = Renewals(
            self._places,
            section=recycle,
            room_beside=self._room_beside,
            hire_beside=lambda place: self._hire(place, predecessor=place.worker),
            clock=host.clock,
            wall=host.wall,
        )
        self._seen: tuple[Gpus, float] | None = None
        self._employed: set[Worker] = set()
        self._group: asyncio.TaskGroup | None = None
        self._stopping = False
        self._over = asyncio.Event()
        self._bell = asyncio.Event()
        self.take_seats(seats)

    async def run(self) -> None:
        """Start every worker and keep them alive until `stop`."""
        try:
            async with asyncio.TaskGroup() as group:
                self._group = group
                for place in self._places.values():
                    self._employ(place, place.worker)
                watching = None
                if self._watch is not None:
                    watching = group.create_task(self._watch.run(self._looked, self._urgency), name="gpus")
                self.reconcile()
                while not self._stopping or self._employed:
                    self._bell.clear()
                    pause_seconds = None if self._stopping else self._step()
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(pause_seconds):
                            await self._bell.wait()
                if watching is not None:
                    watching.cancel()
        finally:
            self._group = None
            self._over.set()

    def _step(self) -> float:
        """Renew whoever is due; how many seconds later to look again."""
        pause_seconds = self._renewals.step(begin=not self._trial.wanted)
        if not self._trial.wanted:
            return pause_seconds
        if self._renewals.current is None:
            self._trial.step()
            if not self._trial.wanted:
                self.reconcile()  # the others follow, or whoever tried comes back
        return LOOK_SECONDS

    def reconcile(self) -> None:
        """Start whatever is wanted with the settings of now, let go of what is not, and tell the listener."""
        for place in [*self._places.values(), *self._former]:
            if self._stopping:
                place.retire(0.0)
            elif self._places.get(place.seat.name) is place:
                place.want()
        if self._watch is not None and any(worker.waits_for == "news" for worker in self._workers()):
            self._watch.ring()
        self._bell.set()
        self._listener.outlook_changed(self.outlook(), wait_seconds=self.ready_in_seconds())

    # --- what operators ask for ---------------------------------------------------------------------------------------

    def drain(self, name: str | None = None, *, grace_seconds: float = DRAIN_SECONDS) -> None:
        """Let a worker, or all, finish and keep it stopped until `resume`. Raises KeyError for an unknown name."""
        for place in self._named(name):
            place.drain(grace_seconds)
        self.reconcile()

    def resume(self, name: str | None = None) -> None:
        """Want a worker, or all, again. Raises KeyError."""
        for place in self._named(name):
            place.held = False
        self.reconcile()

    def recycle(self, name: str | None = None) -> None:
        """Renew a worker, or all one after another, so that nobody notices; one that waits for its next life begins it
        now. Raises KeyError."""
        for place in self._named(name):
            if place.worker.state in AT_REST:
                if not place.held:
                    place.renew(0.0)
            else:
                place.asked = True
        self._bell.set()

    def restart(self, name: str, *, grace_seconds: float = DRAIN_SECONDS) -> None:
        """Let a worker finish and begin its next life then, whoever else is ready; one that waits for its next life
        begins it now. Raises KeyError."""
        self._places[name].renew(grace_seconds)

    def try_settings(self, settings: Callable[[Seat], EngineSettings], *, ended: Callable[[str | None], None]) -> None:
        """Have one worker try these. `ended` is called once it is ready, with None, and has to put them in force; the
        others are renewed then. Or it is told why it did not get ready, and all go on with what is in force. It is not
        called if others are tried before it came to that."""
        self._trial.want(settings, ended=ended)
        self.reconcile()

    async def stop(self) -> None:
        """Shut down, terminate, kill: when this returns, no worker is left (save one that the kernel holds on to)."""
        self._stopping = True
        if self._group is not None:
            self.reconcile()
            await self._over.wait()

    # --- what there is to see -----------------------------------------------------------------------------------------

    def status(self) -> tuple[WorkerStatus, ...]:
        """Every worker, in the order of the seats."""
        current = self._renewals.current
        return tuple(
            msgspec.structs.replace(
                place.worker.status(),
                totals=place.tally.totals(),
                next_recycle_at=self._renewals.next_at(place),
                last_recycle=place.last_recycle,
                held=place.held,
                renewing=place.asked or self._trial.place is place or (current is not None and current.place is place),
                successor=None if place.heir is None else place.heir.status(),
                leaving=tuple(worker.status() for worker in place.leaving),
            )
            for place in self._places.values()
        )

    def outlook(self) -> Outlook:
        """Whether there is someone to serve a request."""
        if self._stopping:
            return Outlook.NOBODY
        wanted = [place for place in self._places.values() if not place.held]
        if any(place.ready() for place in wanted):
            return Outlook.SERVING
        hopeless = all(place.worker.given_up and place.heir is None for place in wanted)
        if hopeless and not (wanted and self._trial.wanted):  # a trial ends with someone who begins anew
            return Outlook.NOBODY
        return Outlook.RETURNING if any(place.worker.history.served for place in wanted) else Outlook.LOADING

    def ready_in_seconds(self) -> float:
        """A guess of when there is someone, if there is nobody now."""
        return min((worker.ready_in_seconds() for worker in self._workers()), default=0.0)

    # --- seats and those who sit there --------------------------------------------------------------------------------

    def take_seats(self, seats: Sequence[Seat]) -> None:
        """From now on there is a worker on each of these, and nowhere else."""
        before = dict(self._places)
        self._places.clear()  # it is built anew, in the order of the seats
        for seat in seats:
            place = before.get(seat.name)
            if place is None or place.seat != seat:
                place = self._open(seat, place)
            self._places[seat.name] = place
        for place in before.values():
            if self._places.get(place.seat.name) is not place and self._group is not None:
                place.retire(DRAIN_SECONDS)
                self._former.append(place)

    def _open(self, seat: Seat, before: Place | None) -> Place:
        place = Place(seat, tally=self._tallies.setdefault(seat.name, Tally()))
        place.held = before is not None and before.held
        place.worker = self._hire(place)
        return place

    def _hire(self, place: Place, *, predecessor: Worker | None = None) -> Worker:
        worker = Worker(place.seat, self._around, tally=place.tally, predecessor=predecessor)
        if self._group is not None:
            self._employ(place, worker)
        return worker

    def _employ(self, place: Place, worker: Worker) -> None:
        assert self._group is not None
        self._employed.add(worker)
        self._group.create_task(self._live(place, worker), name=f"worker {place.seat.name}")

    async def _live(self, place: Place, worker: Worker) -> None:
        await worker.run()
        self._employed.discard(worker)
        place.leaving.discard(worker)
        self._former = [former for former in self._former if self._employed.intersection(former.workers())]
        self.reconcile()

    def _named(self, name: str | None) -> list[Place]:
        return list(self._places.values()) if name is None else [self._places[name]]

    def _workers(self) -> list[Worker]:
        return [worker for place in self._places.values() for worker in place.workers()]

    # --- GPUs ---------------------------------------------------------------------------------------------------------

    def _looked(self, gpus: Gpus, at: float) -> None:
        """News of the GPUs: seats may come and go, and those who wait may begin."""
        self._seen = (gpus, at)
        if self._watch is not None and self._watch.seats_after is not None and not self._stopping:
            try:
                self.take_seats(self._watch.seats_after(gpus))
            except ConfigError as error:
                log.error("seats stay as they are", reason=str(error))  # noqa: TRY400 - the reason says it all
        for worker in self._workers():
            if worker.state is State.WAITING:
                worker.wish(Looked(gpus, at))
        self.reconcile()

    def _urgency(self) -> Urgency:
        wants = {worker.waits_for for worker in self._workers()}
        if wants & {"news", "memory"}:
            return Urgency.MEMORY
        return Urgency.MISSING if "gpu" in wants else Urgency.CALM

    def _room_beside(self, place: Place) -> bool | None:
        """Whether the place's next life fits beside the one that serves; None: ask again, a look is on its way."""
        tenure = place.worker.tenure(growths=0)
        rss_bytes = tenure.load.host_rss_bytes if tenure is not None and tenure.load is not None else 0
        if tenure is None or not fits_beside(rss_bytes=rss_bytes, available_bytes=self._host.available_bytes()):
            return False
        if place.seat.gpu is None or self._watch is None:
            return place.seat.gpu is None
        age_seconds = math.inf if self._seen is None else self._host.clock() - self._seen[1]
        if self._seen is None or age_seconds > min(RECENT_SECONDS, tenure.age_seconds):
            self._watch.ring()
            return None
        gpu = self._seen[0].find(place.seat.gpu)
        needed = None if gpu is None else place.worker.needed_bytes(gpu, settings=self._trial.planned(place.seat))
        return gpu is not None and needed is not None and (gpu.free_bytes or 0) >= needed
