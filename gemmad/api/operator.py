"""What operators see and ask for, whichever way they come: the control socket and the dashboard answer from here.

Who may ask is decided by those who take the question; what is asked is logged here, with who it was.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from gemmad.api.errors import Answer, ErrorBody
from gemmad.api.health import Health
from gemmad.api.overview import (
    Asked,
    ConfigDiff,
    Configuration,
    Overview,
    Reload,
    RequestList,
    Requests,
    Tokens,
    WorkerOverview,
)
from gemmad.api.record import record_of
from gemmad.api.services import Services
from gemmad.config.schema import Config
from gemmad.errors import GemmadError
from gemmad.logs import get_logger
from gemmad.supervisor.lifecycle import State
from gemmad.supervisor.pool import Pool
from gemmad.supervisor.wishes import WorkerStatus

ALL = "all"
"""Instead of a worker's name."""

_log = get_logger(__name__)

Who = Mapping[str, Any]
"""Fields of a log line: who asks."""


class RefusedError(GemmadError):
    """An operator's wish that is not granted."""

    def __init__(self, status: int, message: str, *, code: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


async def _no_reload(*, dry_run: bool) -> Reload:
    del dry_run
    raise RefusedError(503, "There is no configuration to read.", code="no_config")


async def _no_diff() -> ConfigDiff:
    return ConfigDiff()


@dataclass(frozen=True, kw_only=True)
class Levers:
    """What can be pulled, and what only operators are told. Without any of it there is nothing to operate."""

    pool: Callable[[], Pool | None] = lambda: None
    """None until it is known where workers can sit."""
    config: Callable[[], Config] = Config
    """In force."""
    last_reload: Callable[[], Reload | None] = lambda: None
    reload: Callable[..., Awaitable[Reload]] = _no_reload
    """Read the configuration again; with `dry_run=True` only tell what would come of it."""
    config_diff: Callable[[], Awaitable[ConfigDiff]] = _no_diff
    config_path: Path | None = None
    url: str = ""
    """Where the API listens."""


class Operator:
    """None of it waits for a worker: what was asked for is under way when it returns."""

    def __init__(self, services: Services, levers: Levers | None = None) -> None:
        self.services = services
        self.levers = levers if levers is not None else Levers()
        self._health = Health(services)
        self._began_at = services.clock()

    # --- looking ------------------------------------------------------------------------------------------------------

    def overview(self) -> Overview:
        """As of now."""
        services, levers, dispatch = self.services, self.levers, self.services.dispatcher.status()
        counts, workers, state = dispatch.counts, services.workers(), self._health.state()
        now = services.clock()
        return Overview(
            version=services.version,
            pid=os.getpid(),
            uptime_seconds=round(now - self._began_at, 3),
            state=state,
            degraded=is_degraded(state, workers),
            url=levers.url,
            models=services.names(),
            max_context=services.max_context(),
            config=Configuration(
                path=None if levers.config_path is None else str(levers.config_path),
                reload=levers.last_reload(),
            ),
            requests=Requests(
                running=dispatch.running,
                waiting=dispatch.waiting,
                total=counts.requests,
                refused=counts.refused,
                finished=counts.finished,
                failed=counts.failed,
                abandoned=counts.abandoned,
                failovers=counts.failovers,
                quarantined=counts.quarantined,
            ),
            tokens=Tokens(
                prompt=counts.prompt_tokens,
                generated=counts.generated_tokens,
                per_second=round(dispatch.tokens_per_second, 1),
            ),
            workers=tuple(worker_overview(worker, now=now) for worker in workers),
            checkpoint=None if (folder := services.checkpoint()) is None else str(folder),
            trouble=services.trouble(),
        )

    def requests(self) -> RequestList:
        """What waits and runs."""
        return RequestList(self.services.dispatcher.requests())

    # --- asking -------------------------------------------------------------------------------------------------------

    def drain(self, worker: str, *, who: Who) -> Asked:
        """Let a worker, or all, finish and stay away. Raises RefusedError."""
        pool, names = self._meant("drain", worker, who)
        for name in names:
            pool.drain(name)
        return self._asked(names)

    def resume(self, worker: str, *, who: Who) -> Asked:
        """Want a worker, or all, again. Raises RefusedError."""
        pool, names = self._meant("resume", worker, who)
        for name in names:
            pool.resume(name)
        return self._asked(names)

    def recycle(self, worker: str, *, who: Who) -> Asked:
        """Renew a worker, or all that are not drained, one after another. Raises RefusedError."""
        pool, names = self._meant("recycle", worker, who)
        drained = {status.name for status in pool.status() if status.held}
        if drained.issuperset(names):
            words = f"A drained worker has no life to renew, so resume it instead: {', '.join(names)}."
            raise RefusedError(409, words, code="worker_drained")
        names = tuple(name for name in names if name not in drained)
        for name in names:
            pool.recycle(name)
        return self._asked(names)

    def cancel(self, request_id: str, *, who: Who) -> RequestList:
        """End what clients know by this id; they are told that an operator did. Raises RefusedError."""
        cancelled = self.services.dispatcher.cancel(request_id)
        if not cancelled:
            words = f"There is no request {request_id[:128]!r}: it has ended, or never was; GET /requests lists all."
            raise RefusedError(404, words, code="request_not_found")
        _log.info("operator asks", verb="cancel", request_id=request_id, **who)
        return RequestList(cancelled)

    async def reload(self, *, dry_run: bool, who: Who) -> Reload:
        """Read the configuration again; returns when it is in force or refused."""
        _log.info("operator asks", verb="reload", dry_run=dry_run, **who)
        return await self.levers.reload(dry_run=dry_run)

    def _meant(self, verb: str, asked: str, who: Who) -> tuple[Pool, tuple[str, ...]]:
        """The pool, and which of its workers are meant. Raises RefusedError."""
        pool = self.levers.pool()
        if pool is None:
            raise RefusedError(503, "The daemon has only begun: its workers are not known yet.", code="no_workers_yet")
        known = tuple(worker.name for worker in pool.status())
        if asked != ALL and asked not in known:
            words = f"There is no worker {asked[:100]!r}; there are {', '.join(known)}."
            raise RefusedError(404, words, code="worker_not_found")
        _log.info("operator asks", verb=verb, worker=asked, **who)
        return pool, known if asked == ALL else (asked,)

    def _asked(self, names: tuple[str, ...]) -> Asked:
        now = self.services.clock()
        workers = (worker for worker in self.services.workers() if worker.name in names)
        return Asked(tuple(worker_overview(worker, now=now) for worker in workers))


def is_degraded(state: str, workers: tuple[WorkerStatus, ...]) -> bool:
    """Whether requests are not answered, or a worker is not ready that should be."""
    return state != "ready" or not all(worker.held or _serves(worker) for worker in workers)


def worker_overview(worker: WorkerStatus, *, now: float) -> WorkerOverview:
    """A worker with durations for moments; `now` is on the pool's clock."""

    def until(moment: float | None) -> float | None:
        return None if moment is None else round(max(0.0, moment - now), 3)

    return WorkerOverview(
        name=worker.name,
        device=worker.device,
        gpu=worker.gpu,
        state=worker.state.value,
        drained=worker.held,
        recycling=worker.renewing,
        state_seconds=round(max(0.0, now - worker.since), 3),
        life=worker.life,
        pid=worker.pid,
        stage=worker.stage,
        progress=worker.fraction,
        waits_for=worker.waits_for,
        requests=worker.requests,
        kv_usage=None if worker.kv_usage is None else round(worker.kv_usage, 4),
        load=worker.load,
        capacity=worker.capacity,
        memory=worker.memory,
        faults=round(worker.faults, 3),
        last_error=worker.last_error,
        retry_in_seconds=until(worker.retry_at),
        next_recycle_in_seconds=until(worker.next_recycle_at),
        last_recycle=worker.last_recycle,
        successor=None if worker.successor is None else worker_overview(worker.successor, now=now),
        above_baseline_bytes=worker.above_baseline_bytes,
        totals=worker.totals,
    )


def _serves(worker: WorkerStatus) -> bool:
    return any(each is not None and each.state is State.READY for each in (worker, worker.successor))


def told(body: msgspec.Struct) -> Response:
    """An answer for operators. It is of this moment: nobody may keep it."""
    headers = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
    return Response(msgspec.json.encode(body), headers=headers, media_type="application/json")


async def handle_refusal(request: Request, error: Exception) -> Response:
    """Starlette's exception handler for `RefusedError`."""
    assert isinstance(error, RefusedError)
    record_of(request).error = error.code
    return Answer(error.status, ErrorBody(message=str(error), type="refused", code=error.code)).response()
