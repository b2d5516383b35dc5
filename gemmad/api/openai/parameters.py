"""Every field of a chat request or a completion that has a meaning somewhere, and what becomes of it here.

`honoured` fields are in the schemas. `ignored` ones change nothing in the reply. `refused` ones would, and cannot: a
value that asks for nothing is accepted, any other is a 400 that names the field. Fields that are in no table are
accepted and ignored, because new SDKs send new fields. docs/api.md is held equal to these tables.
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


def _text_only(value: Any) -> bool:
    return value in ([], ["text"])


def _honoured(name: str, note: str) -> Parameter:
    return Parameter(name, "honoured", note)


def _ignored(name: str, note: str) -> Parameter:
    return Parameter(name, "ignored", note)


def _refused(name: str, note: str, neutral: Callable[[Any], bool]) -> Parameter:
    return Parameter(name, "refused", note, neutral)


_DRAWN: tuple[Parameter, ...] = (
    _honoured("stream", "server-sent events"),
    _honoured("stream_options", "`include_usage`; only with `stream`"),
    _honoured("temperature", "0 to 2; 0 is greedy"),
    _honoured("top_p", "0 to 1"),
    _honoured("top_k", "0 and -1 are off"),
    _honoured("min_p", "0 to 1"),
    _honoured("frequency_penalty", "-2 to 2; counts what the reply has said"),
    _honoured("presence_penalty", "-2 to 2; counts what the reply has said"),
    _honoured("repetition_penalty", "0.01 to 100, 1 is off; counts the prompt too"),
    _honoured("logit_bias", "up to 1024 token ids as keys, -100 to 100 each"),
    _honoured("seed", "any signed 64-bit integer; a random one if absent"),
)
_ENDED: tuple[Parameter, ...] = (
    _honoured("stop", "a string or up to 16, each of 1 to 1000 characters"),
    _honoured("n", "1 to 16 choices; choice `i` is what a request with `seed + i` says"),
    _honoured("priority", "as vLLM's: -100 to 100, 0 if absent; the lower, the earlier its turn in the queue"),
    _honoured("ignore_eos", "for benchmarks: only `max_tokens` and `stop` end the reply"),
    _honoured("min_tokens", "for benchmarks: the model may not end its reply before"),
)
_HELD: tuple[Parameter, ...] = (
    _honoured("response_format", "text, json_object, or json_schema, `strict` or not"),
    _honoured("structured_outputs", "vLLM's: `json`, `regex`, `choice`, `grammar` or `json_object`"),
    _honoured("guided_json", "a JSON schema, as an object or as text"),
    _honoured("guided_regex", "a regular expression for the whole reply"),
    _honoured("guided_choice", "up to 4096 strings, one of which the reply is"),
    _honoured("guided_grammar", "a context-free grammar: GBNF, or Lark's"),
    _honoured("json_schema", "llama.cpp's and SGLang's name of `guided_json`"),
    _honoured("regex", "SGLang's name of `guided_regex`"),
    _honoured("ebnf", "SGLang's name of `guided_grammar`"),
    _honoured("grammar", "llama.cpp's name of `guided_grammar`"),
)
_IGNORED: tuple[Parameter, ...] = (
    _ignored("user", "names the end user"),
    _ignored("metadata", "nothing is stored"),
    _ignored("store", "nothing is stored"),
    _ignored("service_tier", "there is one"),
    _ignored("prompt_cache_key", "no cache needs the hint"),
    _ignored("prompt_cache_options", "no cache needs the hint"),
    _ignored("prompt_cache_retention", "no cache needs the hint"),
    _ignored("safety_identifier", "names the end user"),
    _ignored("guided_decoding_backend", "there is one"),
)
_REFUSED: tuple[Parameter, ...] = (
    _refused("guided_whitespace_pattern", "null is accepted", _empty),
    _refused("use_beam_search", "false is accepted", _false),
    _refused("length_penalty", "1 is accepted", _number(1)),
    _refused("stop_token_ids", "an empty list is accepted", _empty),
    _refused("include_stop_str_in_output", "false is accepted", _false),
    _refused("skip_special_tokens", "true is accepted", lambda value: value is True),
    _refused("bad_words", "an empty list is accepted", _empty),
    _refused("allowed_token_ids", "null is accepted", lambda _value: False),
    _refused("prompt_logprobs", "0 is accepted", _number(0)),
)

CHAT: tuple[Parameter, ...] = (
    _honoured("messages", "at least one; roles system, developer, user, assistant and tool"),
    _honoured("model", "one of the names in `GET /v1/models`"),
    *_DRAWN,
    _honoured("max_tokens", "what the context leaves if absent"),
    _honoured("max_completion_tokens", "newer name of `max_tokens`; the smaller counts if both are given"),
    *_ENDED,
    _honoured("logprobs", "the network's own: before penalties, bias, grammar and temperature"),
    _honoured("top_logprobs", "0 to 20; only with `logprobs`"),
    _honoured("tools", "up to 512 functions"),
    _honoured("tool_choice", "none, auto, required, a function by its name, or allowed_tools"),
    _honoured("parallel_tool_calls", "true if absent; false if `tool_choice` names a function"),
    *_HELD,
    _honoured("continue_final_message", "the reply goes on with the assistant's last message"),
    _honoured("add_generation_prompt", "true, or false beside `continue_final_message`"),
    *_IGNORED,
    _ignored("verbosity", "the model was not taught any"),
    _ignored("reasoning_effort", "the model was not taught any"),
    _ignored("prediction", "a hint about speed alone"),
    _refused("functions", "an empty list is accepted; `tools` took its place", _empty),
    _refused("function_call", "none and auto are accepted; `tool_choice` took its place", _word("none", "auto")),
    _refused("modalities", '`["text"]` is accepted', _text_only),
    _refused("audio", "null is accepted", _empty),
    _refused("web_search_options", "null is accepted", lambda _value: False),
    _refused("moderation", "null is accepted", lambda _value: False),
    _refused("best_of", "1 is accepted", _number(1)),
    _refused("echo", "false is accepted", _false),
    _refused("chat_template", "null is accepted", _empty),
    _refused("chat_template_kwargs", "an empty one is accepted", _empty),
    *_REFUSED,
)

MESSAGE: tuple[Parameter, ...] = (
    _honoured("role", "system, developer (the same), user, assistant, tool"),
    _honoured("content", "a string, or parts of type text and, from user and tool, image_url; null beside calls"),
    _honoured("tool_calls", "what the assistant called"),
    _honoured("tool_call_id", "whose result a tool's message is"),
    _ignored("name", "the model was not taught names of speakers"),
    _ignored("refusal", "the model was not taught any"),
    _refused("function_call", "null is accepted; `tool_calls` took its place", _empty),
    _refused("audio", "null is accepted", _empty),
)

COMPLETION: tuple[Parameter, ...] = (
    _honoured("prompt", "a string, token ids, or up to 128 of either; control tokens in it count as such"),
    _honoured("model", "one of the names in `GET /v1/models`"),
    *_DRAWN,
    _honoured("max_tokens", "16 if absent, as OpenAI has it"),
    *_ENDED,
    _honoured("logprobs", "0 to 20; the network's own: before penalties, bias, grammar and temperature"),
    _honoured("echo", "the prompt stands before each text; not with `logprobs`: those of the prompt are not computed"),
    _honoured("best_of", "the value of `n` only"),
    *_HELD,
    *_IGNORED,
    _refused("suffix", "null is accepted; the model was not taught to fill in", _empty),
    *_REFUSED,
)

STRUCTURED_OUTPUTS: tuple[Parameter, ...] = (
    _refused("structural_tag", "null is accepted", _empty),
    _refused("whitespace_pattern", "null is accepted", _empty),
)
"""Of vLLM's fields those that are not served."""

REFUSED_ROLES = ("function",)
REFUSED_PARTS = ("input_audio", "audio_url", "file", "video_url")


def refuse_unsupported(body: Mapping[str, Any], table: tuple[Parameter, ...] = CHAT) -> None:
    """Raise InvalidRequestError for the first field of a decoded request that is known and cannot be honoured."""
    for path, what in _unsupported(body, table):
        raise InvalidRequestError(f"Unsupported parameter: '{path}' {what}.", param=path, code="unsupported_parameter")


def _unsupported(body: Mapping[str, Any], table: tuple[Parameter, ...]) -> Iterator[tuple[str, str]]:
    yield from _asked_for(table, body, "")
    outputs = body.get("structured_outputs")
    if isinstance(outputs, dict):
        yield from _asked_for(STRUCTURED_OUTPUTS, outputs, "structured_outputs.")
    messages = body.get("messages")
    for index, message in enumerate(messages if isinstance(messages, list) else ()):
        if isinstance(message, dict):
            yield from _unsupported_in_message(message, f"messages[{index}].")


def _unsupported_in_message(message: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, str]]:
    if message.get("role") in REFUSED_ROLES:
        yield f"{prefix}role", f"'{message['role']}' is not supported"
    yield from _asked_for(MESSAGE, message, prefix)
    content = message.get("content")
    for index, part in enumerate(content if isinstance(content, list) else ()):
        if isinstance(part, dict) and part.get("type") in REFUSED_PARTS:
            yield f"{prefix}content[{index}].type", f"'{part['type']}' is not supported"


def _asked_for(table: tuple[Parameter, ...], fields: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, str]]:
    for parameter in table:
        value = fields.get(parameter.name)
        if parameter.handling == "refused" and value is not None and not parameter.neutral(value):
            yield f"{prefix}{parameter.name}", f"is not supported ({parameter.note})"
