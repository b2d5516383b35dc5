"""The input as a conversation. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence, Set
from typing import Any

import msgspec

from gemmad.api.asks import Conversation, ImageAsked
from gemmad.api.fields import json_text
from gemmad.api.openai.decisions.schema import (
    Call,
    CustomCall,
    DecisionRequest,
    InputImage,
    InputJson,
    InputMessage,
    InputText,
    Output,
    OutputText,
    Part,
)
from gemmad.errors import InvalidRequestError
from gemmad.text.messages import CallPart, ImagePart, Message, ResultPart, TextPart
from gemmad.text.messages import Part as TextRoomPart
from gemmad.text.opening import write_call

MAX_JSON_DEPTH = 32
MAX_JSON_VALUES = 10_000
MAX_JSON_BYTES = 256 << 10

_ALLOWED = {
    "user": ("input_text", "input_image", "input_json"),
    "developer": ("input_text",),
    "system": ("input_text",),
    "assistant": ("output_text", "refusal"),
    "output": ("input_text", "input_image"),
    "question": ("input_text", "input_image", "input_json"),
}
"""Kinds of parts by who says them."""

_CallKey = tuple[bool, str]
"""Whether it is one of a custom tool, and its id."""
_Calls = dict[_CallKey, str]
"""Names of the functions that were called."""


class Pictures:
    """Collects the images of a request, in the order in which they are shown."""

    def __init__(self, *, most: int) -> None:
        self.asked: list[ImageAsked] = []
        self._most = most

    def add(self, url: str, param: str) -> int:
        """Its index. Raises InvalidRequestError for one too many."""
        if len(self.asked) == self._most:
            raise InvalidRequestError(f"A request can have {self._most} images at most.", param=param)
        self.asked.append(ImageAsked(url, param))
        return len(self.asked) - 1


def conversation(request: DecisionRequest, pictures: Pictures) -> Conversation:
    """What the questions are about. A call that was not answered is what the assistant said last, to be judged.

    Raises InvalidRequestError for parts and outputs that are out of place.
    """
    if isinstance(request.input, str):
        return Conversation((Message("user", (TextPart(request.input),)),), param="input")
    calls: _Calls = {}
    answered = {_key_of(item) for item in request.input if isinstance(item, Output)}
    messages: list[Message] = []
    for index, item in enumerate(request.input):
        path = f"input[{index}]"
        match item:
            case InputMessage():
                messages.append(_message(item, path, pictures))
            case Call() | CustomCall():
                messages.append(_call(item, calls, answered))
            case Output():
                messages.append(_output(item, path, calls, pictures))
    return Conversation(tuple(messages), tuple(pictures.asked), param="input")


def parts(
    content: str | Sequence[Part], path: str, pictures: Pictures, *, speaker: str
) -> Iterator[TextPart | ImagePart]:
    """What somebody says. Raises InvalidRequestError for what they cannot."""
    if isinstance(content, str):
        yield TextPart(content)
        return
    for index, part in enumerate(content):
        at = f"{path}[{index}]"
        if part.type not in _ALLOWED[speaker]:
            kinds = ", ".join(f"'{kind}'" for kind in _ALLOWED[speaker])
            raise InvalidRequestError(
                f"Invalid value for '{at}.type': expected one of {kinds} here.",
                param=f"{at}.type",
                code="invalid_value",
            )
        match part:
            case InputText() | OutputText():
                yield TextPart(part.text)
            case InputImage():
                yield ImagePart(pictures.add(part.image_url, f"{at}.image_url"))
            case InputJson():
                yield TextPart(bounded_json(part.data, f"{at}.data"))
            case _:
                yield TextPart(part.refusal)


def bounded_json(data: Any, param: str) -> str:
    """JSON text, keys in the client's order. Raises InvalidRequestError for what is too deep, too many, too long."""
    level, values, depth = [data], 0, 0
    while level:
        values += len(level)
        containers = [value for value in level if isinstance(value, (dict, list))]
        depth += bool(containers)
        if depth > MAX_JSON_DEPTH or values > MAX_JSON_VALUES:
            raise InvalidRequestError(
                f"JSON can have {MAX_JSON_DEPTH} levels and {MAX_JSON_VALUES} values at most.", param=param
            )
        level = [inner for outer in containers for inner in (outer.values() if isinstance(outer, dict) else outer)]
    text = json_text(data, param=param)
    compact = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    if len(compact.encode()) > MAX_JSON_BYTES:
        raise InvalidRequestError(f"Compact JSON can have {MAX_JSON_BYTES} bytes at most.", param=param)
    return text


def _message(item: InputMessage, path: str, pictures: Pictures) -> Message:
    said = tuple(parts(item.content, f"{path}.content", pictures, speaker=item.role))
    return Message("system" if item.role == "developer" else item.role, said)


def _call(item: Call | CustomCall, calls: _Calls, answered: Set[_CallKey]) -> Message:
    key = isinstance(item, CustomCall), item.call_id
    calls[key] = item.name
    arguments = json_text({"input": item.input}, param="input") if isinstance(item, CustomCall) else item.arguments
    call = CallPart(item.call_id, item.name, arguments)
    return Message("assistant", (call if key in answered else TextPart(_write(call)),))


def _write(call: CallPart) -> str:
    """A call as the model writes one; arguments that are no JSON object are quoted."""
    try:
        msgspec.json.decode(call.arguments, type=dict[str, Any])
    except (msgspec.DecodeError, RecursionError):
        return write_call(call.name, json_text(call.arguments, param="input"))
    return write_call(call.name, call.arguments.strip())


def _output(item: Output, path: str, calls: _Calls, pictures: Pictures) -> Message:
    name = calls.get(_key_of(item))
    if name is None:
        raise InvalidRequestError(
            f"Invalid value for '{path}.call_id': no such call comes before this output.",
            param=f"{path}.call_id",
            code="invalid_value",
        )
    said: tuple[TextRoomPart, ...] = tuple(parts(item.output, f"{path}.output", pictures, speaker="output"))
    return Message("tool", (ResultPart(item.call_id, name), *said))


def _key_of(item: Output) -> _CallKey:
    return item.type == "custom_tool_call_output", item.call_id
