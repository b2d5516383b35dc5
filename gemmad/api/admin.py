"""The control socket's routes: everyone who reaches it may look, wardens may change something."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gemmad.api.dashboard.look import last_line_asked, look
from gemmad.api.dashboard.snapshot import LivePoints, Token
from gemmad.api.dashboard.span import span_of
from gemmad.api.edge import Edge
from gemmad.api.errors import handle
from gemmad.api.operator import Operator, RefusedError, handle_refusal, told
from gemmad.api.peer import Wardens, peer_of
from gemmad.errors import GemmadError
from gemmad.logs import get_logger
from gemmad.monitor.sample import Samples

_log = get_logger(__name__)


@dataclass(frozen=True, kw_only=True)
class AdminServices:
    """What these routes need."""

    operator: Operator
    wardens: Wardens


def create_admin_app(admin: AdminServices) -> Starlette:
    """The routes of the control socket. Whoever serves it notes the `Peer` of each connection in the scope's state."""
    routes = Admin(admin)
    app = Starlette(
        routes=[
            Route("/status", routes.status),
            Route("/snapshot", routes.snapshot),
            Route("/live", routes.live),
            Route("/memory", routes.memory),
            Route("/reload", routes.reload, methods=["POST"]),
            Route("/config/diff", routes.config_diff),
            Route("/requests", routes.requests),
            Route("/requests/{request_id:path}/cancel", routes.cancel, methods=["POST"]),
            Route("/workers/{worker}/drain", routes.drain, methods=["POST"]),
            Route("/workers/{worker}/resume", routes.resume, methods=["POST"]),
            Route("/workers/{worker}/recycle", routes.recycle, methods=["POST"]),
            Route("/dashboard/token", routes.token, methods=["POST"]),
        ],
        middleware=[Middleware(Edge, clock=admin.operator.services.clock)],
        exception_handlers={HTTPException: handle, RefusedError: handle_refusal, GemmadError: handle},
    )
    app.router.redirect_slashes = False
    return app


class Admin:
    """The routes' handlers: who may, and what the operator is asked for."""

    def __init__(self, admin: AdminServices) -> None:
        self._operator = admin.operator
        self._wardens = admin.wardens

    async def status(self, request: Request) -> Response:
        """Everything at one look."""
        del request
        return told(self._operator.overview())

    async def snapshot(self, request: Request) -> Response:
        """What a dashboard is sent each second; the log for wardens only, `?after=NUMBER` its lines after this one."""
        is_warden = self._wardens.admit(peer_of(request))
        self._operator.services.watched.looked_at()
        return told(look(self._operator, after=last_line_asked(request), may_act=is_warden, with_log=is_warden))

    async def live(self, request: Request) -> Response:
        """The last minutes, second by second."""
        del request
        return told(LivePoints(self._operator.services.watched.live()))

    async def memory(self, request: Request) -> Response:
        """Samples of each worker's memory; `?since=24h&until=1h&limit=500`. Raises InvalidRequestError."""
        span = span_of(request.query_params, now=time.time())
        watched = self._operator.services.watched
        return told(Samples(await watched.history(span.since, span.until, span.limit)))

    async def reload(self, request: Request) -> Response:
        """Read the configuration again; answers when it is in force or refused. `?dry_run=1` changes nothing."""
        who = self._admit(request)
        return told(await self._operator.reload(dry_run=request.query_params.get("dry_run") == "1", who=who))

    async def requests(self, request: Request) -> Response:
        """What waits and runs."""
        del request
        return told(self._operator.requests())

    async def cancel(self, request: Request) -> Response:
        """End what clients know by this id. Raises RefusedError."""
        who = self._admit(request)
        return told(self._operator.cancel(request.path_params["request_id"], who=who))

    async def config_diff(self, request: Request) -> Response:
        """What the files say and the daemon does not have. API keys are in neither."""
        del request
        return told(await self._operator.levers.config_diff())

    async def drain(self, request: Request) -> Response:
        """Let a worker, or all, finish and stay away."""
        who = self._admit(request)
        return told(self._operator.drain(request.path_params["worker"], who=who))

    async def resume(self, request: Request) -> Response:
        """Want a worker, or all, again."""
        who = self._admit(request)
        return told(self._operator.resume(request.path_params["worker"], who=who))

    async def recycle(self, request: Request) -> Response:
        """Renew a worker, or all that are not drained, one after another."""
        who = self._admit(request)
        return told(self._operator.recycle(request.path_params["worker"], who=who))

    async def token(self, request: Request) -> Response:
        """Begin a session of the dashboard for a warden."""
        who = self._admit(request)
        token, session = self._operator.services.sessions.begin(uid=who["uid"])
        _log.info("dashboard session begins", session=session.name, **who)
        return told(Token(token, self._operator.levers.url))

    def _admit(self, request: Request) -> dict[str, Any]:
        """Who asks, for the log. Raises RefusedError for one who may only look."""
        peer, wardens = peer_of(request), self._wardens
        if not wardens.admit(peer):
            raise RefusedError(403, f"Only {wardens.words} may do this, and not uid {peer.uid}.", code="forbidden")
        return {"uid": peer.uid, "pid": peer.pid}
