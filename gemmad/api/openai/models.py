"""`GET /v1/models` and `GET /v1/models/{id}`."""

from __future__ import annotations

from msgspec import UNSET, UnsetType
from starlette.requests import Request
from starlette.responses import Response

from gemmad.api.openai import wire
from gemmad.api.services import Services


class Models:
    """The names that are served, all for the same model."""

    def __init__(self, services: Services) -> None:
        self._services = services

    async def index(self, request: Request) -> Response:
        """All of them, the one that is reported first."""
        del request
        models = tuple(self._model(name) for name in self._services.names())
        return _json(wire.ModelList(models))

    async def one(self, request: Request) -> Response:
        """One of them. Raises UnknownModelError."""
        return _json(self._model(self._services.model_name(request.path_params["model"])))

    def _model(self, name: str) -> wire.Model:
        return wire.Model(
            id=name,
            created=self._services.started_at,
            root=self._services.names()[0],
            max_model_len=self._services.max_context(),
            capabilities=self._capabilities(),
        )

    def _capabilities(self) -> tuple[str, ...] | UnsetType:
        served = self._services.served()
        if served is None:
            return UNSET
        return ("completion", "tools", *(("vision",) if served.media is not None else ()))


def _json(body: wire.Model | wire.ModelList) -> Response:
    return Response(wire.encode(body), media_type="application/json")
