"""Every field of a chat request that has a meaning somewhere, and what becomes of it here.

`honoured` fields are in `schema.py`. `ignored` ones change nothing in the reply. `refused` ones would, and are not
built yet: a value that asks for nothing is accepted, any other is a 400 that names the field. Fields that are in no
table are accepted and ignored, because new SDKs send new fields. docs/api.md is held equal to these tables.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal

from msgspec import Struct

from gemmad.errors import InvalidRequestError

Handling = Literal["honoured", "ignored", "refused"]


class Parameter(Struct, frozen=True):
    """One field. `neutral` tells which values of a refused one ask for nothing; null never does."""

    name: str
    handling: Handling
    note: str
    neutral: Callable[[Any], bool] = lambda _value: False


def _empty(value: Any) -> bool:
    return value in ([], {}, "")


def _false(value: Any) -> bool:
    return value is False


def _number(expected: float) -> Callable[[Any], bool]:
    return lambda value: type(value) in (int, float) and value == expected


def _word(*words: str) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, str) and value in words


def _text_format(value: Any) -> bool:
    return isinstance(value, dict) and value.get("type") == "text"


def _text_only(value: Any) -> bool:
    return value in ([], ["text"])


def _honoured(name: str, note: str) -> Parameter:
    return Parameter(name, "honoured", note)


def _ignored(name: str, note: str) -> Parameter:
    return Parameter(name, "ignored", note)


def _refused(name: str, note: str, neutral: Callable[[Any], bool]) -> Parameter:
    return Parameter(name, "refused", note, neutral)


CHAT: tuple[Parameter, ...] = (
    _honoured("messages", "at least one; roles system, developer, user and assistant"),
    _honoured("model", "one of the names in `GET /v1/models`"),
    _honoured("stream", "server-sent events"),
    _honoured("stream_options", "`include_usage`; only with `stream`"),
    _honoured("temperature", "0 to 2; 0 is greedy"),
    _honoured("top_p", "0 to 1"),
    _honoured("top_k", "0 and -1 are off"),
    _honoured("min_p", "0 to 1"),
    _honoured("seed", "any signed 64-bit integer; a random one if absent"),
    _honoured("max_tokens", "what the context leaves if absent"),
    _honoured("max_completion_tokens", "newer name of `max_tokens`; the smaller counts if both are given"),
    _honoured("stop", "a string or up to 16, each of 1 to 1000 characters"),
    _honoured("n", "1 to 16 choices; choice `i` is what a request with `seed + i` says"),
    _honoured("priority", "as vLLM's: -100 to 100, 0 if absent; the lower, the earlier its turn in the queue"),
    _honoured("ignore_eos", "for benchmarks: only `max_tokens` and `stop` end the reply"),
    _honoured("min_tokens", "for benchmarks: the model may not end its reply before"),
    _ignored("user", "names the end user"),
    _ignored("metadata", "nothing is stored"),
    _ignored("store", "nothing is stored"),
    _ignored("service_tier", "there is one"),
    _ignored("prompt_cache_key", "no cache needs the hint"),
    _ignored("prompt_cache_options", "no cache needs the hint"),
    _ignored("prompt_cache_retention", "no cache needs the hint"),
    _ignored("safety_identifier", "names the end user"),
    _ignored("verbosity", "the model was not taught any"),
    _ignored("reasoning_effort", "the model was not taught any"),
    _ignored("parallel_tool_calls", "without tools it has no meaning"),
    _refused("frequency_penalty", "0 is accepted", _number(0)),
    _refused("presence_penalty", "0 is accepted", _number(0)),
    _refused("repetition_penalty", "1 is accepted", _number(1)),
    _refused("logit_bias", "an empty one is accepted", _empty),
    _refused("logprobs", "false is accepted", _false),
    _refused("top_logprobs", "0 is accepted", _number(0)),
    _refused("response_format", '`{"type": "text"}` is accepted', _text_format),
    _refused("tools", "an empty list is accepted", _empty),
    _refused("tool_choice", "none and auto are accepted", _word("none", "auto")),
    _refused("functions", "an empty list is accepted", _empty),
    _refused("function_call", "none and auto are accepted", _word("none", "auto")),
    _refused("modalities", '`["text"]` is accepted', _text_only),
    _refused("audio", "null is accepted", _empty),
    _refused("prediction", "null is accepted", _empty),
    _refused("web_search_options", "null is accepted", lambda _value: False),
    _refused("moderation", "null is accepted", lambda _value: False),
    _refused("continue_final_message", "false is accepted", _false),
    _refused("add_generation_prompt", "true is accepted", lambda value: value is True),
    _refused("best_of", "1 is accepted", _number(1)),
    _refused("use_beam_search", "false is accepted", _false),
    _refused("length_penalty", "1 is accepted", _number(1)),
    _refused("stop_token_ids", "an empty list is accepted", _empty),
    _refused("include_stop_str_in_output", "false is accepted", _false),
    _refused("skip_special_tokens", "true is accepted", lambda value: value is True),
    _refused("bad_words", "an empty list is accepted", _empty),
    _refused("allowed_token_ids", "null is accepted", lambda _value: False),
    _refused("prompt_logprobs", "0 is accepted", _number(0)),
    _refused("echo", "false is accepted", _false),
    _refused("chat_template", "null is accepted", _empty),
    _refused("chat_template_kwargs", "an empty one is accepted", _empty),
    _refused("structured_outputs", "null is accepted", _empty),
    _refused("guided_json", "null is accepted", _empty),
    _refused("guided_regex", "null is accepted", _empty),
    _refused("guided_choice", "null is accepted", _empty),
    _refused("guided_grammar", "null is accepted", _empty),
    _refused("grammar", "null is accepted", _empty),
    _refused("json_schema", "null is accepted", _empty),
    _refused("regex", "null is accepted", _empty),
    _refused("ebnf", "null is accepted", _empty),
)

MESSAGE: tuple[Parameter, ...] = (
    _honoured("role", "system, developer (the same), user, assistant"),
    _honoured("content", "a string, or parts of type text and, from the user, image_url"),
    _ignored("name", "the model was not taught names of speakers"),
    _ignored("refusal", "the model was not taught any"),
    _refused("tool_calls", "an empty list is accepted", _empty),
    _refused("tool_call_id", "null is accepted", _empty),
    _refused("function_call", "null is accepted", _empty),
    _refused("audio", "null is accepted", _empty),
)

REFUSED_ROLES = ("tool", "function")
REFUSED_PARTS = ("input_audio", "audio_url", "file", "video_url", "refusal")


def refuse_unsupported(body: Mapping[str, Any]) -> None:
    """Raise InvalidRequestError for the first field of a decoded request that is known and not built yet."""
    for path, what in _unsupported(body):
        raise InvalidRequestError(f"Unsupported parameter: '{path}' {what}.", param=path, code="unsupported_parameter")


def _unsupported(body: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    yield from _asked_for(CHAT, body, "")
    messages = body.get("messages")
    for index, message in enumerate(messages if isinstance(messages, list) else ()):
        if isinstance(message, dict):
            yield from _unsupported_in_message(message, f"messages[{index}].")


def _unsupported_in_message(message: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, str]]:
    if message.get("role") in REFUSED_ROLES:
        yield f"{prefix}role", f"'{message['role']}' is not supported yet"
    yield from _asked_for(MESSAGE, message, prefix)
    content = message.get("content")
    for index, part in enumerate(content if isinstance(content, list) else ()):
        if isinstance(part, dict) and part.get("type") in REFUSED_PARTS:
            yield f"{prefix}content[{index}].type", f"'{part['type']}' is not supported"


def _asked_for(table: tuple[Parameter, ...], fields: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, str]]:
    for parameter in table:
        value = fields.get(parameter.name)
        if parameter.handling == "refused" and value is not None and not parameter.neutral(value):
            yield f"{prefix}{parameter.name}", f"is not supported yet ({parameter.note})"
