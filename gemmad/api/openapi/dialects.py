"""Operations that the clients of Anthropic and of Ollama know."""

from __future__ import annotations

from gemmad.api.anthropic import wire as anthropic
from gemmad.api.anthropic.parameters import BLOCKS, COUNT_TOKENS, MESSAGES
from gemmad.api.anthropic.schema import CountRequest, MessagesRequest
from gemmad.api.ollama import wire as ollama
from gemmad.api.ollama.errors import ErrorLine
from gemmad.api.ollama.parameters import OLLAMA_CHAT, OLLAMA_GENERATE, OLLAMA_MESSAGE, OLLAMA_OPTIONS
from gemmad.api.ollama.schema import ChatRequest, GenerateRequest, ShowRequest
from gemmad.api.openapi.operation import Operation, Stream

_EVENTS = "Server-sent events named like their types, lines ended by a bare line feed; the last tells an error, or is"
_LINES = Stream((ollama.Line, ErrorLine), "Lines of JSON, unless `stream` is false.", media_type="application/x-ndjson")

ANTHROPIC = (
    Operation(
        method="post",
        path="/v1/messages",
        name="create_message",
        summary="A reply to a conversation, as Anthropic's clients ask for it",
        tag="anthropic",
        body=MessagesRequest,
        fields=MESSAGES,
        parts=(("Blocks of a message", BLOCKS),),
        answer=anthropic.MessageBody,
        stream=Stream((anthropic.Event,), f"{_EVENTS} `message_stop`."),
        error=anthropic.ErrorEvent,
    ),
    Operation(
        method="post",
        path="/v1/messages/count_tokens",
        name="count_message_tokens",
        summary="How many tokens the same request's prompt has",
        tag="anthropic",
        body=CountRequest,
        fields=COUNT_TOKENS,
        answer=anthropic.TokenCount,
        error=anthropic.ErrorEvent,
    ),
)

OLLAMA = (
    Operation(
        method="post",
        path="/api/chat",
        name="ollama_chat",
        summary="A reply to a conversation, as Ollama's clients ask for it",
        tag="ollama",
        body=ChatRequest,
        fields=OLLAMA_CHAT,
        parts=(("Messages", OLLAMA_MESSAGE), ("Options", OLLAMA_OPTIONS)),
        answer=ollama.Line,
        stream=_LINES,
        error=ErrorLine,
    ),
    Operation(
        method="post",
        path="/api/generate",
        name="ollama_generate",
        summary="What goes on from a prompt",
        tag="ollama",
        body=GenerateRequest,
        fields=OLLAMA_GENERATE,
        answer=ollama.Line,
        stream=_LINES,
        error=ErrorLine,
    ),
    Operation(
        method="post",
        path="/api/show",
        name="ollama_show",
        summary="What a model is",
        tag="ollama",
        body=ShowRequest,
        answer=ollama.Show,
        error=ErrorLine,
    ),
    Operation(
        method="get",
        path="/api/tags",
        name="ollama_tags",
        summary="The names that are served",
        tag="ollama",
        answer=ollama.Tags,
        error=ErrorLine,
        refuses=frozenset({503}),
    ),
    Operation(
        method="get",
        path="/api/ps",
        name="ollama_ps",
        summary="The names that are served, as they lie in memory",
        tag="ollama",
        answer=ollama.RunningList,
        error=ErrorLine,
        refuses=frozenset({503}),
    ),
    Operation(
        method="get",
        path="/api/version",
        name="ollama_version",
        summary="Which of Ollama's APIs this is",
        tag="ollama",
        answer=ollama.Version,
        error=ErrorLine,
    ),
)
