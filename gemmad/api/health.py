"""Whether, and how well, the daemon can serve. None of it needs a key, none of it waits."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response

from gemmad.api.errors import retry_after
from gemmad.api.services import LOADING_RETRY_SECONDS, Services
from gemmad.supervisor.listener import Outlook
from gemmad.supervisor.wishes import WorkerStatus

_STATES = {
    Outlook.SERVING: "ready",
    Outlook.RETURNING: "recovering",
    Outlook.LOADING: "loading",
    Outlook.NOBODY: "failed",
}

OVERVIEW = """\
gemmad {version} serves {model} behind an OpenAI-compatible API.

  POST /v1/chat/completions   chat, text and images, streamed or not
  GET  /v1/models             what is served
  GET  /health                whether requests are answered, and what the workers do
  GET  /health/live           whether the daemon runs
  GET  /metrics               for Prometheus
  GET  /version
"""


class Health:
    """The routes that tell about the daemon itself."""

    def __init__(self, services: Services) -> None:
        self._services = services

    async def health(self, request: Request) -> Response:
        """200 once a worker is ready, 503 before and while draining, with what is going on either way."""
        del request
        state = self.state()
        serving = state == "ready"
        workers = [_worker(status) for status in self._services.workers()]
        body = {"status": state, "models": list(self._services.names()), "workers": workers}
        headers = {} if serving else retry_after(LOADING_RETRY_SECONDS)
        return JSONResponse(body, 200 if serving else 503, headers)

    async def live(self, request: Request) -> Response:
        """200 as long as the event loop turns."""
        del request
        return JSONResponse({"status": "live"})

    async def version(self, request: Request) -> Response:
        """Which gemmad this is."""
        del request
        return JSONResponse({"version": self._services.version})

    async def metrics(self, request: Request) -> Response:
        """Prometheus' text format."""
        del request
        return Response(self._services.metrics.render(), media_type=self._services.metrics.media_type)

    async def overview(self, request: Request) -> Response:
        """For people who open the address in a browser."""
        del request
        model = " and ".join(self._services.names()) or "no model"
        return PlainTextResponse(OVERVIEW.format(version=self._services.version, model=model))

    def state(self) -> str:
        """One word: ready, loading, recovering (no worker for the moment), draining, or failed (none will come)."""
        dispatch = self._services.dispatcher.status()
        if dispatch.draining:
            return "draining"
        if self._services.served() is None:
            return "loading"
        return _STATES[dispatch.outlook]


def _worker(status: WorkerStatus) -> dict[str, Any]:
    progress = {} if status.stage is None else {"stage": status.stage, "progress": status.fraction}
    if status.waits_for is not None:
        progress["waits_for"] = status.waits_for
    return {"name": status.name, "state": status.state.value, **progress}
