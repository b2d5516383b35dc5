"""Whether, and how well, the daemon can serve. None of it waits; what needs no key is in `auth.OPEN_PATHS`."""

from __future__ import annotations

from typing import Literal

import msgspec
from msgspec import UNSET, Struct, UnsetType
from msgspec.structs import replace
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from gemmad.api.auth import holder_of
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

NO_MODEL = "no_model"

OVERVIEW = """\
gemmad {version} serves {model} behind an OpenAI-compatible API.

  POST /v1/chat/completions   chat, text and images, streamed or not
  GET  /v1/models             what is served
  GET  /health                whether requests are answered, and what the workers do
  GET  /health/live           whether the daemon runs
  GET  /metrics               for Prometheus
  GET  /version
  GET  /                      in a browser: the dashboard
  GET  /chat                  in a browser: a page to chat on
"""


class WorkerHealth(Struct, frozen=True):
    """One worker, and what it loads or waits for."""

    name: str
    state: str
    """One of docs/lifecycle.md."""
    stage: str | UnsetType = UNSET
    progress: float | UnsetType | None = UNSET
    """Of that stage, 0 to 1."""
    waits_for: str | UnsetType = UNSET


class HealthBody(Struct, frozen=True):
    """Names and workers are told to those who have a key, where one is needed."""

    status: str
    models: tuple[str, ...] | UnsetType = UNSET
    workers: tuple[WorkerHealth, ...] | UnsetType = UNSET
    reason: str | UnsetType = UNSET
    """Why there is no model."""
    remedy: str | UnsetType = UNSET
    """What mends that: a command, where there is one."""


class LiveBody(Struct, frozen=True):
    """The daemon runs."""

    status: Literal["live"] = "live"


class VersionBody(Struct, frozen=True):
    """Which gemmad."""

    version: str


class Health:
    """The routes that tell about the daemon itself."""

    def __init__(self, services: Services) -> None:
        self._services = services

    async def health(self, request: Request) -> Response:
        """200 once a worker is ready, 503 before and while draining, with what is going on either way. Who has no key
        where one is needed is told no more than the state."""
        state = self.state()
        serving = state == "ready"
        body = HealthBody(state)
        if not self._services.keyring() or holder_of(request) is not None:
            workers = tuple(_worker(status) for status in self._services.workers())
            body = HealthBody(state, self._services.names(), workers)
            if (trouble := self._services.trouble()) is not None:
                body = replace(body, reason=trouble.reason, remedy=trouble.remedy)
        return _json(body) if serving else _json(body, 503, retry_after(LOADING_RETRY_SECONDS))

    async def live(self, request: Request) -> Response:
        """200 as long as the event loop turns."""
        del request
        return _json(LiveBody())

    async def version(self, request: Request) -> Response:
        """Which gemmad this is."""
        del request
        return _json(VersionBody(self._services.version))

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
        """One word: ready, loading, recovering (no worker for the moment), draining, failed (none will come), or
        no_model (it is not there, or cannot be read)."""
        dispatch = self._services.dispatcher.status()
        if dispatch.draining:
            return "draining"
        if self._services.served() is None:
            return "loading" if self._services.trouble() is None else NO_MODEL
        return _STATES[dispatch.outlook]


def _worker(status: WorkerStatus) -> WorkerHealth:
    if status.stage is None:
        return WorkerHealth(status.name, status.state.value, waits_for=status.waits_for or UNSET)
    return WorkerHealth(
        status.name,
        status.state.value,
        stage=status.stage,
        progress=status.fraction,
        waits_for=status.waits_for or UNSET,
    )


def _json(body: Struct, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(msgspec.json.encode(body), status, headers, media_type="application/json")
