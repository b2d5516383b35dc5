"""Tools in a conversation of a model that has no tokens and no role for them: definitions, calls and results as words.

The wording is the one that Google documents for Gemma 3 (ai.google.dev/gemma/docs/capabilities/function-calling, the
form with JSON), with a line on several calls, which it leaves open. Definitions open the conversation, so that all that
comes after is an unchanged beginning as the conversation grows. They are the same for every choice of tools: what the
model may call just now is held by the reply's grammar. A past call stands there as the model writes one: with arguments
sent back as they were said, the history is what the model has said, to the letter. What a call gave back stands in the
user's turn, in the fence that Google's guides put it in.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import msgspec
from msgspec import Struct

from gemmad.errors import InvalidRequestError
from gemmad.generation import Tool, ToolChoice
from gemmad.text.messages import CallPart, ImagePart, Message, Part, ResultPart, TextPart
from gemmad.text.opening import write_call
from gemmad.text.turns import BLANK_LINE, check_messages, check_text

INSTRUCTION = """\
You have access to functions. If you decide to invoke any of the function(s),
you MUST put it in the format of
{"name": function name, "parameters": dictionary of argument name and its value}
If you invoke several functions, put each of them on a line of its own.

You SHOULD NOT include any other text in the response if you call a function
"""

NO_CALL_NOW = "Do not call a function now. Answer yourself."

_FENCE = re.compile("`{3,}")


def render_tools(
    messages: Sequence[Message], tools: Sequence[Tool], choice: ToolChoice, *, param: str = "tools"
) -> tuple[Message, ...]:
    """The conversation in words and pictures alone, as `settle` takes it, message for message; the definitions are a
    part of the first message if that is a system message, else a system message before it.

    `param` is what the client calls its tools. Raises InvalidRequestError, which names what is wrong: a call without a
    result before something else is said, a result without a call, two tools of one name, a choice of an unknown one.
    """
    check_messages(messages)
    check_tools(tools, choice, param)
    rendered = list(_render_messages(messages))
    if choice.mode == "none" and tools and messages[-1].role != "assistant":
        last = rendered[-1]
        parting = [TextPart(BLANK_LINE)] if last.parts else []
        rendered[-1] = Message(last.role, (*last.parts, *parting, TextPart(NO_CALL_NOW)))
    if tools:
        definitions = TextPart(define(tools, param))
        if messages[0].role == "system":
            rendered[0] = Message("system", (definitions, TextPart(BLANK_LINE), *rendered[0].parts))
        else:
            rendered.insert(0, Message("system", (definitions,)))
    return tuple(rendered)


def check_tools(tools: Sequence[Tool], choice: ToolChoice, param: str) -> None:
    """Raises InvalidRequestError if a name stands for two tools, or the choice names one for none."""
    names: set[str] = set()
    for number, tool in enumerate(tools):
        for text in (tool.name, tool.description, tool.parameters):
            check_text(text, f"{param}[{number}]")
        if tool.name in names:
            raise InvalidRequestError(f"Two tools have the name {_show(tool.name)}.", param=f"{param}[{number}]")
        names.add(tool.name)
    for name in choice.allowed or ():
        if name not in names:
            raise InvalidRequestError(f"There is no tool of the name {_show(name)}.", param="tool_choice")


def define(tools: Sequence[Tool], param: str = "tools") -> str:
    """How the model is told what it can call. Raises InvalidRequestError for parameters that are no JSON object."""
    defined = ",\n".join(_define(tool, f"{param}[{number}]") for number, tool in enumerate(tools))
    return f"{INSTRUCTION}[\n{defined}\n]"


def _define(tool: Tool, param: str) -> str:
    try:
        parameters = msgspec.json.format(tool.parameters, indent=0)
        is_object = isinstance(msgspec.json.decode(parameters), dict)
    except (msgspec.DecodeError, RecursionError) as error:
        raise InvalidRequestError(f"The parameters of the tool are no JSON: {error}", param=param) from error
    if not is_object:
        raise InvalidRequestError("The parameters of the tool are no JSON object.", param=param)
    fields = [f'"name": {_quote(tool.name)}']
    if tool.description:
        fields.append(f'"description": {_quote(tool.description)}')
    return f'{{{", ".join(fields)}, "parameters": {parameters}}}'


class _Pending(Struct):
    """A call whose result has not been seen."""

    id: str
    name: str
    number: int
    """Within its round, from 1."""
    message: int
    """Index of the message that makes the call."""


def _render_messages(messages: Sequence[Message]) -> Iterator[Message]:
    pending: list[_Pending] = []
    in_round = 0
    before = ""
    for index, message in enumerate(messages):
        if message.role == "tool":
            yield Message("user", tuple(_render_results(message.parts, pending, index, in_round)))
        elif message.role == "assistant":
            if before == "tool":
                _demand_results(pending)
                in_round = 0
            calls = [part for part in message.parts if isinstance(part, CallPart)]
            pending += (
                _Pending(call.id, call.name, number, index) for number, call in enumerate(calls, start=in_round + 1)
            )
            in_round += len(calls)
            yield Message("assistant", tuple(_render_calls(message.parts)))
        else:
            _demand_results(pending)
            in_round = 0
            yield message
        before = message.role
    _demand_results(pending)


def _demand_results(pending: Sequence[_Pending]) -> None:
    if not pending:
        return
    ids = ", ".join(_show(call.id) for call in itertools.islice(pending, 10))
    raise InvalidRequestError(
        "An assistant message with calls must be followed by a result for each of them. There is none for: " + ids,
        param=f"messages[{pending[0].message}].tool_calls",
    )


def _render_calls(parts: Iterable[Part]) -> Iterator[Part]:
    """Each call on a line of its own."""
    end = "\n"
    for part in parts:
        match part:
            case CallPart(_, name, arguments):
                text = write_call(name, _settle_arguments(arguments))
                yield TextPart(text if end == "\n" else "\n" + text)
                end = "}"
            case TextPart(text):
                if text:
                    yield TextPart("\n" + text if end == "}" else text)
                    end = "\n" if text.endswith("\n") else " "
            case _:
                yield part
                end = "\n"


def _settle_arguments(arguments: str) -> str:
    """As they are, if they are a JSON object. A client may send back what a model cut short: that is quoted."""
    if not arguments or arguments.isspace():
        return "{}"
    try:
        decoded: Any = msgspec.json.decode(arguments)
    except (msgspec.DecodeError, RecursionError):
        return _quote(arguments)
    return arguments.strip() if isinstance(decoded, dict) else _quote(arguments)


def _render_results(
    parts: Sequence[Part], pending: list[_Pending], index: int, in_round: int
) -> Iterator[TextPart | ImagePart]:
    """Takes those whose results these are out of `pending`."""
    assert parts, "a message of a tool begins with whose result it is"
    assert isinstance(parts[0], ResultPart), "a message of a tool begins with whose result it is"
    starts = [at for at, part in enumerate(parts) if isinstance(part, ResultPart)]
    for start, end in itertools.pairwise((*starts, len(parts))):
        result = parts[start]
        assert isinstance(result, ResultPart)
        call = next((call for call in pending if call.id == result.id), None)
        if call is None:
            raise InvalidRequestError(
                f"A result must follow the assistant message with its call. There is no such call, or it has a result"
                f" already: {_show(result.id)}",
                param=f"messages[{index}].tool_call_id",
            )
        pending.remove(call)
        label = f"Result of call {call.number}, {result.name or call.name}:\n" if in_round > 1 else ""
        if start:
            label = BLANK_LINE + label
        yield from _fence(parts[start + 1 : end], label)


def _fence(parts: Sequence[Part], label: str) -> Iterator[TextPart | ImagePart]:
    """The fence is longer than any within, as Markdown has it."""
    texts = [part.text for part in parts if isinstance(part, TextPart)]
    longest = max((len(run) for text in texts for run in _FENCE.findall(text)), default=2)
    fence = "`" * (longest + 1)
    yield TextPart(f"{label}{fence}tool_output\n")
    for part in parts:
        assert isinstance(part, TextPart | ImagePart)
        yield part
    ends_line = bool(parts) and isinstance(parts[-1], TextPart) and parts[-1].text.endswith("\n")
    yield TextPart(fence if ends_line else "\n" + fence)


def _quote(text: str) -> str:
    return msgspec.json.encode(text).decode()


def _show(name: str) -> str:
    return _quote(name if len(name) <= 80 else name[:80] + "…")
