"""What operators see and ask for, over the control socket only: everyone who reaches it may look, few may change."""

from __future__ import annotations

import os
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gemmad.api.edge import Edge
from gemmad.api.errors import Answer, ErrorBody, handle
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
from gemmad.api.peer import Wardens, peer_of
from gemmad.api.services import Services
from gemmad.errors import GemmadError
from gemmad.logs import get_logger
from gemmad.supervisor.lifecycle import State
from gemmad.supervisor.pool import Pool
from gemmad.supervisor.wishes import WorkerStatus

ALL = "all"
"""Instead of a worker's name."""

_log = get_logger(__name__)


class RefusedError(GemmadError):
    """An operator's wish that is not granted."""

    def __init__(self, status: int, message: str, *, code: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


@dataclass(frozen=True, kw_only=True)
class AdminServices:
    """What these routes need beyond those of the API."""

    services: Services
    wardens: Wardens
    pool: Callable[[], Pool | None]
    """None until it is known where workers can sit."""
    last_reload: Callable[[], Reload | None]
    reload: Callable[..., Awaitable[Reload]]
    """Read the configuration again; with `dry_run=True` only tell what would come of it."""
    config_diff: Callable[[], Awaitable[ConfigDiff]]
    config_path: Path | None
    url: str
    """Where the API listens."""
    clock: Callable[[], float] = time.monotonic
    """The pool's, too."""


def create_admin_app(admin: AdminServices) -> Starlette:
    """The routes of the control socket. Whoever serves it notes the `Peer` of each connection in the scope's state."""
    routes = Admin(admin)
    app = Starlette(
        routes=[
            Route("/status", routes.status),
            Route("/reload", routes.reload, methods=["POST"]),
            Route("/config/diff", routes.config_diff),
            Route("/requests", routes.requests),
            Route("/requests/{request_id:path}/cancel", routes.cancel, methods=["POST"]),
            Route("/workers/{worker}/drain", routes.drain, methods=["POST"]),
            Route("/workers/{worker}/resume", routes.resume, methods=["POST"]),
            Route("/workers/{worker}/recycle", routes.recycle, methods=["POST"]),
        ],
        middleware=[Middleware(Edge, clock=admin.clock)],
        exception_handlers={HTTPException: handle, RefusedError: _handle_refusal},
    )
    app.router.redirect_slashes = False
    return app


class Admin:
    """The routes' handlers. None of them waits for a worker: what was asked for is under way when they answer."""

    def __init__(self, admin: AdminServices) -> None:
        self._admin = admin
        self._health = Health(admin.services)
        self._began_at = admin.clock()

    async def status(self, request: Request) -> Response:
        """Everything at one look."""
        del request
        return _json(self.overview())

    async def reload(self, request: Request) -> Response:
        """Read the configuration again; answers when it is in force or refused. `?dry_run=1` changes nothing."""
        self._admit(request)
        dry_run = request.query_params.get("dry_run") == "1"
        peer = peer_of(request)
        _log.info("operator asks", verb="reload", dry_run=dry_run, uid=peer.uid, pid=peer.pid)
        return _json(await self._admin.reload(dry_run=dry_run))

    async def requests(self, request: Request) -> Response:
        """What waits and runs."""
        del request
        return _json(RequestList(self._admin.services.dispatcher.requests()))

    async def cancel(self, request: Request) -> Response:
        """End what clients know by this id; they are told that an operator did. Raises RefusedError."""
        self._admit(request)
        peer, request_id = peer_of(request), request.path_params["request_id"]
        cancelled = self._admin.services.dispatcher.cancel(request_id)
        if not cancelled:
            words = f"There is no request {request_id[:128]!r}: it has ended, or never was; GET /requests lists all."
            raise RefusedError(404, words, code="request_not_found")
        _log.info("operator asks", verb="cancel", request=request_id, uid=peer.uid, pid=peer.pid)
        return _json(RequestList(cancelled))

    async def config_diff(self, request: Request) -> Response:
        """What the files say and the daemon does not have. API keys are in neither."""
        del request
        return _json(await self._admin.config_diff())

    async def drain(self, request: Request) -> Response:
        """Let a worker, or all, finish and stay away."""
        pool, names = self._asked(request, "drain")
        for name in names:
            pool.drain(name)
        return self._answer(names)

    async def resume(self, request: Request) -> Response:
        """Want a worker, or all, again."""
        pool, names = self._asked(request, "resume")
        for name in names:
            pool.resume(name)
        return self._answer(names)

    async def recycle(self, request: Request) -> Response:
        """Renew a worker, or all that are not drained, one after another."""
        pool, names = self._asked(request, "recycle")
        drained = {worker.name for worker in pool.status() if worker.held}
        if drained.issuperset(names):
            words = f"A drained worker has no life to renew, so resume it instead: {', '.join(names)}."
            raise RefusedError(409, words, code="worker_drained")
        names = tuple(name for name in names if name not in drained)
        for name in names:
            pool.recycle(name)
        return self._answer(names)

    def overview(self) -> Overview:
        """As of now."""
        services, dispatch = self._admin.services, self._admin.services.dispatcher.status()
        counts, workers, state = dispatch.counts, services.workers(), self._health.state()
        return Overview(
            version=services.version,
            pid=os.getpid(),
            uptime_seconds=round(self._admin.clock() - self._began_at, 3),
            state=state,
            degraded=is_degraded(state, workers),
            url=self._admin.url,
            models=services.names(),
            max_context=services.max_context(),
            config=Configuration(
                path=None if self._admin.config_path is None else str(self._admin.config_path),
                reload=self._admin.last_reload(),
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
            workers=tuple(worker_overview(worker, now=self._admin.clock()) for worker in workers),
            checkpoint=None if (folder := services.checkpoint()) is None else str(folder),
            trouble=services.trouble(),
        )

    def _asked(self, request: Request, verb: str) -> tuple[Pool, tuple[str, ...]]:
        """The pool, and which of its workers are meant. Raises RefusedError."""
        self._admit(request)
        peer, pool = peer_of(request), self._admin.pool()
        if pool is None:
            raise RefusedError(503, "The daemon has only begun: its workers are not known yet.", code="no_workers_yet")
        known, asked = tuple(worker.name for worker in pool.status()), request.path_params["worker"]
        if asked != ALL and asked not in known:
            words = f"There is no worker {asked[:100]!r}; there are {', '.join(known)}."
            raise RefusedError(404, words, code="worker_not_found")
        _log.info("operator asks", verb=verb, worker=asked, uid=peer.uid, pid=peer.pid)
        return pool, known if asked == ALL else (asked,)

    def _admit(self, request: Request) -> None:
        """Raises RefusedError for one who may only look."""
        peer, wardens = peer_of(request), self._admin.wardens
        if not wardens.admit(peer):
            raise RefusedError(403, f"Only {wardens.words} may do this, and not uid {peer.uid}.", code="forbidden")

    def _answer(self, names: tuple[str, ...]) -> Response:
        now = self._admin.clock()
        workers = (worker for worker in self._admin.services.workers() if worker.name in names)
        return _json(Asked(tuple(worker_overview(worker, now=now) for worker in workers)))


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
    )


def _serves(worker: WorkerStatus) -> bool:
    return any(each is not None and each.state is State.READY for each in (worker, worker.successor))


def _json(body: Overview | Asked | ConfigDiff | Reload | RequestList) -> Response:
    return Response(msgspec.json.encode(body), media_type="application/json")


async def _handle_refusal(request: Request, error: Exception) -> Response:
    del request
    assert isinstance(error, RefusedError)
    return Answer(error.status, ErrorBody(message=str(error), type="refused", code=error.code)).response()
