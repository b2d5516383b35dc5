"""Every field of a request for a response that has a meaning somewhere, and what becomes of it here.

`honoured` fields are in `schema.py`. `ignored` ones change nothing in the reply. `refused` ones would: a value that
asks for nothing is accepted, any other is a 400 that names the field. Fields that are in no table are accepted and
ignored, because new SDKs send new fields. docs/api.md is held equal to these tables.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from gemmad.api.fields import asked_for, honoured, ignored, is_empty, refusal, refused
from gemmad.api.openai.parameters import Parameter

RESPONSES: tuple[Parameter, ...] = (
    honoured("model", "one of the names in `GET /v1/models`"),
    honoured("input", "a string, or items; may be absent with `previous_response_id`"),
    honoured("instructions", "said before everything else, and not carried over to the next response"),
    honoured("previous_response_id", "a stored response of the same key; its input and output come first"),
    honoured("store", "true if absent; kept in memory until newer ones need the room"),
    honoured("stream", "server-sent events, with the sequence numbers and the order of OpenAI's"),
    honoured("background", "needs `store`; streams of it can be left and taken up again"),
    honoured("max_output_tokens", "what the context leaves if absent"),
    honoured("temperature", "0 to 2; 0 is greedy"),
    honoured("top_p", "0 to 1"),
    honoured("top_logprobs", "0 to 20; told where `include` asks for log-probabilities"),
    honoured("include", "`message.output_text.logprobs`; the others are about what never comes"),
    honoured("tools", "`function`, `namespace`s of them; tools of other types are left out where the model need not"),
    honoured("tool_choice", "none, auto, required, a function, allowed_tools"),
    honoured("parallel_tool_calls", "true if absent"),
    honoured("text", "`format`: text, json_object, json_schema; `verbosity` is ignored"),
    honoured("truncation", "disabled, or auto: the oldest items are left out until the rest fits"),
    honoured("metadata", "up to 16 pairs, told again with the response"),
    honoured("top_k", "0 and -1 are off"),
    honoured("min_p", "0 to 1"),
    honoured("seed", "any signed 64-bit integer; a random one if absent"),
    honoured("frequency_penalty", "-2 to 2; counts what the reply has said"),
    honoured("presence_penalty", "-2 to 2; counts what the reply has said"),
    honoured("repetition_penalty", "0.01 to 100, 1 is off; counts the prompt too"),
    honoured("logit_bias", "up to 1024 token ids as keys, -100 to 100 each"),
    honoured("priority", "as vLLM's: -100 to 100, 0 if absent; the lower, the earlier its turn in the queue"),
    ignored("reasoning", "the model was not taught any; told again with the response"),
    ignored("stream_options", "nothing is obfuscated"),
    ignored("user", "names the end user"),
    ignored("safety_identifier", "names the end user"),
    ignored("service_tier", "there is one"),
    ignored("prompt_cache_key", "no cache needs the hint"),
    ignored("prompt_cache_options", "no cache needs the hint"),
    ignored("prompt_cache_retention", "no cache needs the hint"),
    ignored("max_tool_calls", "it is about tools that OpenAI runs"),
    ignored("background_options", "there is no cheaper time"),
    ignored("access_programs", "there are none"),
    ignored("image", "the model sees every image at its one size"),
    refused("conversation", "null is accepted; `previous_response_id` goes on with a response"),
    refused("prompt", "null is accepted; there are no stored prompts"),
    refused("context_management", "an empty list is accepted; `truncation` leaves out what does not fit", is_empty),
    refused("moderation", "null is accepted"),
    refused("messages", "here it is called `input`"),
    refused("response_format", "here it is called `text.format`"),
    refused("max_tokens", "here it is called `max_output_tokens`"),
    refused("max_completion_tokens", "here it is called `max_output_tokens`"),
    refused("functions", "here it is called `tools`", is_empty),
    refused("function_call", "here it is called `tool_choice`"),
    refused("n", "1 is accepted", lambda value: value == 1),
    refused("stop", "null is accepted", is_empty),
    refused("logprobs", "here it is asked for in `include`", lambda value: value is False),
)

ITEMS: tuple[Parameter, ...] = (
    honoured("message", "roles system, developer (the same), user, assistant"),
    honoured("function_call", "made by the assistant"),
    honoured("function_call_output", "text, or parts; `call_id` names a call before it"),
    honoured("custom_tool_call", "as a call with one argument, `input`"),
    honoured("custom_tool_call_output", "as a function's"),
    honoured("item_reference", "an item of a stored response of the same key"),
    ignored("reasoning", "the model was not taught any"),
    refused("computer_call", ""),
    refused("computer_call_output", ""),
    refused("local_shell_call", ""),
    refused("local_shell_call_output", ""),
    refused("shell_call", ""),
    refused("shell_call_output", ""),
    refused("apply_patch_call", ""),
    refused("apply_patch_call_output", ""),
    refused("web_search_call", ""),
    refused("file_search_call", ""),
    refused("code_interpreter_call", ""),
    refused("image_generation_call", ""),
    refused("tool_search_call", ""),
    refused("tool_search_output", ""),
    refused("mcp_list_tools", ""),
    refused("mcp_approval_request", ""),
    refused("mcp_approval_response", ""),
    refused("mcp_call", ""),
    refused("program", ""),
    refused("program_output", ""),
    refused("compaction", ""),
    refused("compaction_trigger", ""),
    refused("configuration_update", ""),
    refused("additional_tools", ""),
)
"""Types of the items of `input`."""

PARTS: tuple[Parameter, ...] = (
    honoured("input_text", "`text` is the same"),
    honoured("output_text", "what the assistant said"),
    honoured("refusal", "as text that the assistant said"),
    honoured("input_image", "`image_url`, data: and http(s):; from the user, or what a call gave back"),
    refused("input_file", ""),
    refused("input_audio", ""),
)
"""Types of the parts of a message, and of what a call gave back."""


def refuse_unsupported(body: Mapping[str, Any]) -> None:
    """Raise InvalidRequestError for the first thing in a decoded request that is known and cannot be honoured."""
    for path, what in _unsupported(body):
        raise refusal(path, what)


def _unsupported(body: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for path, note in asked_for(RESPONSES, body):
        yield path, f"is not supported ({note})"
    items = body.get("input")
    for index, item in enumerate(items if isinstance(items, list) else ()):
        if isinstance(item, dict):
            yield from _unsupported_in_item(item, f"input[{index}]")


def _unsupported_in_item(item: Mapping[str, Any], path: str) -> Iterator[tuple[str, str]]:
    yield from _refused_type(ITEMS, item, path)
    for field in ("content", "output"):
        parts = item.get(field)
        for index, part in enumerate(parts if isinstance(parts, list) else ()):
            if not isinstance(part, dict):
                continue
            yield from _refused_type(PARTS, part, f"{path}.{field}[{index}]")
            if part.get("type") == "input_image" and part.get("file_id") is not None:
                yield f"{path}.{field}[{index}].file_id", "is not supported (there are no files; use `image_url`)"


def _refused_type(table: tuple[Parameter, ...], value: Mapping[str, Any], path: str) -> Iterator[tuple[str, str]]:
    for parameter in table:
        if parameter.handling == "refused" and value.get("type") == parameter.name:
            yield f"{path}.type", f"'{parameter.name}' is not supported"
