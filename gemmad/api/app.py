"""The HTTP side as one ASGI application."""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gemmad.api.edge import Edge
from gemmad.api.errors import handle
from gemmad.api.health import Health
from gemmad.api.openai.chat import ChatCompletions
from gemmad.api.openai.models import Models
from gemmad.api.services import Services
from gemmad.errors import GemmadError


def create_app(services: Services) -> Starlette:
    """Routes, and what every answer has in common."""
    app = Starlette(
        routes=_routes(services),
        middleware=[Middleware(Edge, clock=services.clock)],
        exception_handlers={HTTPException: _handle_http, GemmadError: handle},
    )
    app.router.redirect_slashes = False
    return app


def _routes(services: Services) -> list[Route]:
    health, models, chat = Health(services), Models(services), ChatCompletions(services)
    return [
        Route("/", health.overview),
        Route("/health", health.health),
        Route("/health/live", health.live),
        Route("/health/ready", health.health),
        Route("/version", health.version),
        Route("/metrics", health.metrics),
        Route("/v1/models", models.index),
        Route("/v1/models/{model:path}", models.one),
        Route("/v1/chat/completions", chat.create, methods=["POST"]),
    ]


async def _handle_http(request: Request, error: Exception) -> Response:
    """What Starlette itself refuses, in words that help."""
    assert isinstance(error, HTTPException)
    where = f"{request.method} {request.url.path[:200]}"
    words = {404: f"Invalid URL ({where}).", 405: f"Not allowed: {where}."}
    detail = words.get(error.status_code, error.detail)
    return await handle(request, HTTPException(error.status_code, detail, error.headers))
