"""Every field of Ollama's chat and generate that has a meaning, and what becomes of it here.

`honoured` fields are in `schema.py`. docs/api.md is held equal to these tables.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gemmad.api.fields import asked_for, honoured, ignored, is_empty, refusal, refused
from gemmad.api.openai.parameters import Parameter


def _is_off(value: Any) -> bool:
    return value is False


def _is_number(expected: float) -> Any:
    return lambda value: type(value) in (int, float) and value == expected


_COMMON: tuple[Parameter, ...] = (
    honoured("model", "one of the names in `GET /api/tags`, with or without `:latest`"),
    honoured("stream", "lines of JSON; true if absent"),
    honoured("format", "`json`, or a JSON schema"),
    honoured("options", "see below"),
    honoured("logprobs", "log-probabilities of the tokens"),
    honoured("top_logprobs", "0 to 20"),
    ignored("keep_alive", "the model stays"),
    refused("think", "the model was not taught to; false is accepted", _is_off),
)

OLLAMA_CHAT: tuple[Parameter, ...] = (
    *_COMMON,
    honoured("messages", "roles system, user, assistant and tool; none at all asks whether the model is there"),
    honoured("tools", "functions"),
    ignored("truncate", "a conversation that is too long is a 400"),
    ignored("shift", "a reply that fills the context ends"),
)

OLLAMA_GENERATE: tuple[Parameter, ...] = (
    *_COMMON,
    honoured("prompt", "said by the user; none at all asks whether the model is there"),
    honoured("system", "said before it"),
    honoured("images", "base64"),
    honoured("raw", "the prompt is gone on with as it stands, without a template"),
    ignored("truncate", "a prompt that is too long is a 400"),
    ignored("shift", "a reply that fills the context ends"),
    refused("suffix", "the model was not taught to fill in; an empty one is accepted", is_empty),
    refused("template", "the model has its own; an empty one is accepted", is_empty),
    refused("context", "the conversation is in `POST /api/chat`; an empty one is accepted", is_empty),
)

OLLAMA_MESSAGE: tuple[Parameter, ...] = (
    honoured("role", "system, user, assistant, tool"),
    honoured("content", "a string"),
    honoured("images", "base64; from the user and from tools"),
    honoured("tool_calls", "from the assistant; `function.arguments` is an object"),
    honoured(
        "tool_call_id", "which call this is the result of; if absent the first that waits for one, of `tool_name`"
    ),
    honoured("tool_name", "whose result this is"),
    ignored("thinking", "what another model thought is not shown to this one"),
)

OLLAMA_OPTIONS: tuple[Parameter, ...] = (
    honoured("num_predict", "0 and less: what the context leaves; fewer where it leaves fewer"),
    honoured("temperature", "0 to 2; 0 is greedy"),
    honoured("top_k", "0 and -1 are off"),
    honoured("top_p", "0 to 1"),
    honoured("min_p", "0 to 1"),
    honoured("seed", "any signed 64-bit integer; a random one if absent or -1"),
    honoured("stop", "a string or up to 16, each of 1 to 1000 characters"),
    honoured("repeat_penalty", "above 0, to 2; 1 is off"),
    honoured("presence_penalty", "-2 to 2"),
    honoured("frequency_penalty", "-2 to 2"),
    ignored("num_ctx", "the context is the daemon's own; `/api/show` tells it"),
    ignored("num_keep", "nothing is cut from a conversation"),
    ignored("repeat_last_n", "penalties look at the whole reply"),
    ignored("penalize_newline", "it is a token like others"),
    ignored("num_batch", "set by the operator"),
    ignored("num_gpu", "set by the operator"),
    ignored("main_gpu", "set by the operator"),
    ignored("num_thread", "set by the operator"),
    ignored("numa", "set by the operator"),
    ignored("low_vram", "set by the operator"),
    ignored("use_mmap", "set by the operator"),
    ignored("use_mlock", "set by the operator"),
    refused("mirostat", "0 is accepted", _is_number(0)),
    refused("tfs_z", "1 is accepted", _is_number(1)),
    refused("typical_p", "1 is accepted", _is_number(1)),
)


def refuse_unsupported(table: tuple[Parameter, ...], body: Mapping[str, Any]) -> None:
    """Raise InvalidRequestError for the first field of a decoded request that is known and not served."""
    options = body.get("options")
    fields = options if isinstance(options, dict) else {}
    for path, note in (*asked_for(table, body), *asked_for(OLLAMA_OPTIONS, fields, prefix="options.")):
        raise refusal(path, f"is not served: {note}")
