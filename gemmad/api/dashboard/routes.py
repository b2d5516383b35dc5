"""The dashboard's routes on the API's port: pages for everyone, data for those who may look, verbs for operators."""

from __future__ import annotations

import time
from collections.abc import Callable

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gemmad.api.auth import session_of
from gemmad.api.dashboard.access import admit_to_act, admit_to_look
from gemmad.api.dashboard.feed import EVENT_HEADERS, EventStream, Feed
from gemmad.api.dashboard.look import last_line_asked, look
from gemmad.api.dashboard.pages import Pages
from gemmad.api.dashboard.settings import in_force
from gemmad.api.dashboard.span import span_of
from gemmad.api.health import Health
from gemmad.api.operator import Operator, told
from gemmad.monitor.sample import Samples


class Dashboard:
    """The handlers. `close` ends the streams of all who listen."""

    def __init__(self, operator: Operator, *, clock: Callable[[], float] = time.time) -> None:
        """`clock`: seconds since the epoch."""
        self._operator = operator
        self._services = operator.services
        self._clock = clock
        self._pages = Pages(Health(operator.services))
        self._feed = Feed(operator)

    def routes(self) -> list[Route]:
        """Pages and assets first; what begins with `/dashboard/` is for the pages' scripts."""
        return [
            Route("/", self._pages.dashboard),
            Route("/chat", self._pages.chat),
            Route("/assets/{path:path}", self._pages.asset),
            Route("/dashboard/events", self.events),
            Route("/dashboard/snapshot", self.snapshot),
            Route("/dashboard/history", self.history),
            Route("/dashboard/config", self.config),
            Route("/dashboard/workers/{worker}/drain", self.drain, methods=["POST"]),
            Route("/dashboard/workers/{worker}/resume", self.resume, methods=["POST"]),
            Route("/dashboard/workers/{worker}/recycle", self.recycle, methods=["POST"]),
            Route("/dashboard/reload", self.reload, methods=["POST"]),
            Route("/dashboard/requests/{request_id:path}/cancel", self.cancel, methods=["POST"]),
        ]

    def close(self) -> None:
        """The daemon stops."""
        self._feed.close()

    # --- looking ------------------------------------------------------------------------------------------------------

    async def events(self, request: Request) -> Response | EventStream:
        """The last minutes, then a snapshot a second, until keys change or the session is over."""
        may_act, session, keyring = (
            admit_to_look(request, self._services),
            session_of(request),
            self._services.keyring(),
        )
        if request.method == "HEAD":
            return Response(headers={name.decode(): value.decode() for name, value in EVENT_HEADERS})

        def is_welcome() -> bool:
            services = self._services
            return services.keyring() == keyring and (session is None or services.sessions.is_on(session))

        return EventStream(self._feed, may_act=may_act, is_welcome=is_welcome)

    async def snapshot(self, request: Request) -> Response:
        """One; `?after=NUMBER` has the log's lines after this one."""
        may_act = admit_to_look(request, self._services)
        self._services.watched.looked_at()
        return told(look(self._operator, after=last_line_asked(request), may_act=may_act))

    async def history(self, request: Request) -> Response:
        """Samples of each worker's memory. Raises InvalidRequestError."""
        admit_to_look(request, self._services)
        span = span_of(request.query_params, now=self._clock())
        return told(Samples(await self._services.watched.history(span.since, span.until, span.limit)))

    async def config(self, request: Request) -> Response:
        """The settings in force."""
        admit_to_look(request, self._services)
        return told(await in_force(self._operator))

    # --- acting -------------------------------------------------------------------------------------------------------

    async def drain(self, request: Request) -> Response:
        """Let a worker, or all, finish and stay away. Raises RefusedError, as do all of these."""
        who = admit_to_act(request)
        return told(self._operator.drain(request.path_params["worker"], who=who))

    async def resume(self, request: Request) -> Response:
        """Want a worker, or all, again."""
        who = admit_to_act(request)
        return told(self._operator.resume(request.path_params["worker"], who=who))

    async def recycle(self, request: Request) -> Response:
        """Renew a worker, or all that are not drained."""
        who = admit_to_act(request)
        return told(self._operator.recycle(request.path_params["worker"], who=who))

    async def reload(self, request: Request) -> Response:
        """Read the configuration again; `?dry_run=1` changes nothing."""
        who = admit_to_act(request)
        return told(await self._operator.reload(dry_run=request.query_params.get("dry_run") == "1", who=who))

    async def cancel(self, request: Request) -> Response:
        """End what its client knows by this id."""
        who = admit_to_act(request)
        return told(self._operator.cancel(request.path_params["request_id"], who=who))
