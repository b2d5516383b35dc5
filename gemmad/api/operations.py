"""The routes that ask for a reply: each request there is one line in the log, and one trace if traces are wanted."""

from __future__ import annotations

OPERATIONS = {
    "/v1/chat/completions": "chat",
    "/v1/completions": "text_completion",
    "/v1/responses": "chat",
    "/v1/messages": "chat",
    "/v1/decisions": "decide",
    "/api/chat": "chat",
    "/api/generate": "text_completion",
}
"""Path, and what OpenTelemetry calls the operation (`gen_ai.operation.name`); `decide` is a word of our own."""


def operation_of(method: str, path: str) -> str | None:
    """What a request asks for; None if it is no reply."""
    return OPERATIONS.get(path) if method == "POST" else None
