"""Every field of Anthropic's Messages API that has a meaning, and what becomes of it here.

`honoured` fields are in `schema.py`. docs/api.md is held equal to these tables.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from gemmad.api.fields import asked_for, honoured, ignored, is_empty, refusal, refused
from gemmad.api.openai.parameters import Parameter

COUNT_TOKENS: tuple[Parameter, ...] = (
    honoured("model", "one of the names in `GET /v1/models`"),
    honoured(
        "messages", "at least one; roles user, assistant and system; ends it with the assistant, that is gone on with"
    ),
    honoured("system", "a string or text blocks; Claude Code's billing line is left out"),
    honoured("tools", "functions with `input_schema`; those of Anthropic's own types are refused by name"),
    honoured("tool_choice", "auto, any, tool, none; `disable_parallel_tool_use`"),
    ignored("thinking", "accepted in every form; the model was not taught to think, and no block of thoughts comes"),
    ignored("output_config", "counts for no tokens"),
    ignored("cache_control", "what was said before is found by itself"),
    ignored("speed", "there is one"),
    ignored("context_management", "nothing is cleared from what was sent"),
    refused("mcp_servers", "no server is called from here; an empty list is accepted", is_empty),
)

MESSAGES: tuple[Parameter, ...] = (
    *(parameter for parameter in COUNT_TOKENS if parameter.name not in ("output_config", "mcp_servers")),
    honoured("max_tokens", "at least 1; fewer where the context leaves fewer: `model_context_window_exceeded`"),
    honoured("stream", "server-sent events"),
    honoured("stop_sequences", "up to 16, each of 1 to 1000 characters"),
    honoured("temperature", "0 to 2; 0 is greedy"),
    honoured("top_p", "0 to 1"),
    honoured("top_k", "0 and -1 are off"),
    honoured("seed", "not Anthropic's: any signed 64-bit integer; a random one if absent"),
    honoured("output_config", "`format`: the reply is JSON that the schema allows; `effort` is ignored"),
    honoured("output_format", "older name of `output_config.format`"),
    ignored("metadata", "nothing is stored"),
    ignored("service_tier", "there is one"),
    ignored("inference_geo", "it is computed here"),
    ignored("diagnostics", "tells nothing of the cache"),
    ignored("user_profile_id", "names the end user"),
    ignored("workspace_id", "there is one"),
    ignored("billing_policy", "nothing is billed"),
    refused("container", "nothing is run here"),
    refused("mcp_servers", "no server is called from here; an empty list is accepted", is_empty),
    refused("fallbacks", "there is one model; an empty list is accepted", is_empty),
    refused("compaction", "conversations are not shortened here"),
    refused("thread", "conversations are not stored here"),
)

BLOCKS: tuple[Parameter, ...] = (
    honoured("text", "in every role"),
    honoured("image", "from the user and in results of tools; `source` of type base64 or url"),
    honoured("document", "from the user and in results of tools; `source` of type text"),
    honoured("search_result", "from the user and in results of tools; its text"),
    honoured("tool_use", "from the assistant; its result must follow in the next message"),
    honoured("tool_result", "from the user; a string or blocks; with `is_error` it begins with a word that says so"),
    ignored("thinking", "what another model thought is not shown to this one"),
    ignored("redacted_thinking", "the same"),
    refused("server_tool_use", "Anthropic's tools are not served"),
    refused("web_search_tool_result", "the same"),
    refused("web_fetch_tool_result", "the same"),
    refused("code_execution_tool_result", "the same"),
    refused("bash_code_execution_tool_result", "the same"),
    refused("text_editor_code_execution_tool_result", "the same"),
    refused("tool_search_tool_result", "the same"),
    refused("mcp_tool_use", "the same"),
    refused("mcp_tool_result", "the same"),
    refused("tool_reference", "the same"),
    refused("browser_state", "the same"),
    refused("container_upload", "nothing is stored here"),
    refused("compaction", "conversations are not shortened here"),
)
"""Kinds of content."""

_REFUSED_BLOCKS = {parameter.name: parameter.note for parameter in BLOCKS if parameter.handling == "refused"}
_SOURCES = {"image": ("base64", "url"), "document": ("text",)}
_CUSTOM = "custom"
_CODES = {"thread": "thread_unsupported_request"}
"""By this one the SDK's tool runner knows to send the whole conversation instead."""


def refuse_unsupported(table: tuple[Parameter, ...], body: Mapping[str, Any]) -> None:
    """Raise InvalidRequestError for the first thing in a decoded request that is known and not served."""
    for path, note in asked_for(table, body):
        raise refusal(path, f"is not served: {note}", code=_CODES.get(path, "unsupported_parameter"))
    for path, what in _unsupported_tools(body.get("tools")):
        raise refusal(path, what)
    messages = body.get("messages")
    for index, message in enumerate(messages if isinstance(messages, list) else ()):
        if isinstance(message, dict):
            for path, what in _unsupported_blocks(message.get("content"), f"messages[{index}].content"):
                raise refusal(path, what)


def _unsupported_tools(tools: Any) -> Iterator[tuple[str, str]]:
    for index, tool in enumerate(tools if isinstance(tools, list) else ()):
        kind = tool.get("type") if isinstance(tool, dict) else None
        if isinstance(kind, str) and kind != _CUSTOM:
            yield f"tools[{index}].type", f"{kind[:100]!r} is not served; tools with an 'input_schema' are"


def _unsupported_blocks(content: Any, path: str) -> Iterator[tuple[str, str]]:
    for index, block in enumerate(content if isinstance(content, list) else ()):
        if not isinstance(block, dict):
            continue
        here, kind = f"{path}[{index}]", block.get("type")
        if not isinstance(kind, str):
            continue
        if kind in _REFUSED_BLOCKS:
            yield f"{here}.type", f"{kind!r} is not served: {_REFUSED_BLOCKS[kind]}"
        source = block.get("source")
        source_kind = source.get("type") if isinstance(source, dict) else None
        if kind in _SOURCES and isinstance(source_kind, str) and source_kind not in _SOURCES[kind]:
            yield f"{here}.source.type", f"{source_kind[:100]!r} is not served for {kind}s"
        if kind == "tool_result":
            yield from _unsupported_blocks(block.get("content"), f"{here}.content")
