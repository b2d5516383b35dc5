"""The HTTP side as one ASGI application."""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gemmad.api.admission import Admission
from gemmad.api.anthropic.messages import Messages
from gemmad.api.auth import Auth
from gemmad.api.cors import Cors
from gemmad.api.dashboard.routes import Dashboard
from gemmad.api.edge import Edge
from gemmad.api.errors import handle
from gemmad.api.health import Health
from gemmad.api.hosts import Hosts
from gemmad.api.ollama.catalogue import Catalogue
from gemmad.api.ollama.chat import Chat
from gemmad.api.openai.chat import ChatCompletions
from gemmad.api.openai.completions import Completions
from gemmad.api.openai.decisions.endpoint import Decisions
from gemmad.api.openai.models import Models
from gemmad.api.openai.responses.endpoint import Responses
from gemmad.api.openai.tokenize import Tokenizing
from gemmad.api.openapi.document import OpenApi
from gemmad.api.operator import Operator, RefusedError, handle_refusal
from gemmad.api.services import Services
from gemmad.errors import GemmadError


def create_app(services: Services, dashboard: Dashboard | None = None) -> Starlette:
    """Routes, and what every answer has in common. Without a `dashboard` there is one that has nothing to operate."""
    pages = dashboard if dashboard is not None else Dashboard(Operator(services))
    app = Starlette(
        routes=[*_routes(services), *pages.routes()],
        middleware=_layers(services),
        exception_handlers={HTTPException: _handle_http, RefusedError: handle_refusal, GemmadError: handle},
    )
    app.router.redirect_slashes = False
    return app


def _layers(services: Services) -> list[Middleware]:
    """What a request goes through, from the outside in: what is not meant for us, or may not call, gets no further."""
    keyring, server = services.keyring, services.server
    return [
        Middleware(Edge, clock=services.clock, tracer=services.tracer, devices=services.devices),
        Middleware(Hosts, section=server, exposed=services.exposed),
        Middleware(Cors, section=server, keyring=keyring),
        Middleware(Auth, section=services.auth, keyring=keyring, sessions=services.sessions, clock=services.clock),
    ]


def _routes(services: Services) -> list[Route]:
    admission = Admission(services)
    tokenizing = Tokenizing(services, admission)
    health, models, chat = Health(services), Models(services), ChatCompletions(services, admission)
    responses = Responses(services, admission)
    messages, catalogue, ollama = Messages(services, admission), Catalogue(services), Chat(services, admission)
    return [
        Route("/health", health.health),
        Route("/health/live", health.live),
        Route("/health/ready", health.health),
        Route("/version", health.version),
        Route("/metrics", health.metrics),
        Route("/openapi.json", OpenApi(services).document),
        Route("/v1/models", models.index),
        Route("/v1/models/{model:path}", models.one),
        Route("/v1/chat/completions", chat.create, methods=["POST"]),
        Route("/v1/completions", Completions(services, admission).create, methods=["POST"]),
        Route("/tokenize", tokenizing.tokenize, methods=["POST"]),
        Route("/detokenize", tokenizing.detokenize, methods=["POST"]),
        Route("/v1/responses", responses.create, methods=["POST"]),
        Route("/v1/responses/input_tokens", responses.count, methods=["POST"]),
        Route("/v1/responses/{response_id}", responses.retrieve),
        Route("/v1/responses/{response_id}", responses.delete, methods=["DELETE"]),
        Route("/v1/responses/{response_id}/cancel", responses.cancel, methods=["POST"]),
        Route("/v1/responses/{response_id}/input_items", responses.input_items),
        Route("/v1/messages", messages.create, methods=["POST"]),
        Route("/v1/messages/count_tokens", messages.count_tokens, methods=["POST"]),
        Route("/api/version", catalogue.version),
        Route("/api/tags", catalogue.tags),
        Route("/api/ps", catalogue.ps),
        Route("/api/show", catalogue.show, methods=["POST"]),
        Route("/api/chat", ollama.chat, methods=["POST"]),
        Route("/api/generate", ollama.generate, methods=["POST"]),
        Route("/v1/decisions", Decisions(services).create, methods=["POST"]),
    ]


async def _handle_http(request: Request, error: Exception) -> Response:
    """What Starlette itself refuses, in words that help."""
    assert isinstance(error, HTTPException)
    where = f"{request.method} {request.url.path[:200]}"
    words = {404: f"Invalid URL ({where}).", 405: f"Not allowed: {where}."}
    detail = words.get(error.status_code, error.detail)
    return await handle(request, HTTPException(error.status_code, detail, error.headers))
