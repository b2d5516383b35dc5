"""Whose words an error is put in: OpenAI's, but on the routes of other dialects theirs, which their clients parse.

What is told, status and headers included, is decided in one table for all of them: `gemmad.api.errors`.
"""

from __future__ import annotations

from gemmad.api.anthropic.errors import error_response as in_anthropics_words
from gemmad.api.errors import Rendering
from gemmad.api.ollama.errors import error_response as in_ollamas_words

ROOTS: tuple[tuple[str, Rendering], ...] = (("/v1/messages", in_anthropics_words), ("/api", in_ollamas_words))
"""Paths that these are, or are below."""


def rendering_of(path: str) -> Rendering | None:
    """None for OpenAI's words."""
    return next((render for root, render in ROOTS if path == root or path.startswith(f"{root}/")), None)
