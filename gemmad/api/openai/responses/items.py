"""What a conversation is made of: items as they are told, stored and referred to."""

from __future__ import annotations

import uuid
from sys import getsizeof
from typing import Literal

from msgspec import UNSET, Struct, UnsetType

ITEM_BYTES = 1024
"""What an item takes beside its text: its ids and names, which are short, and its places in tables."""
LOGPROB_BYTES = 256
"""What one token's log-probability takes."""

Status = Literal["in_progress", "completed", "incomplete"]


class LikelyLogprob(Struct, frozen=True):
    """A token that was likely, and how likely."""

    token: str
    bytes: tuple[int, ...]
    logprob: float


class Logprob(LikelyLogprob, frozen=True):
    """The token that was said, with the likeliest."""

    top_logprobs: tuple[LikelyLogprob, ...] = ()


class InputText(Struct, frozen=True, tag_field="type", tag="input_text"):
    """Words."""

    text: str


class InputImage(Struct, frozen=True, tag_field="type", tag="input_image"):
    """A picture."""

    image_url: str
    detail: str = "auto"
    file_id: None = None


class OutputText(Struct, frozen=True, tag_field="type", tag="output_text"):
    """Words of the assistant."""

    text: str
    annotations: tuple[()] = ()
    logprobs: tuple[Logprob, ...] = ()


Part = InputText | InputImage | OutputText


class Message(Struct, frozen=True, tag_field="type", tag="message"):
    """Something said."""

    id: str
    role: Literal["system", "developer", "user", "assistant"]
    content: tuple[Part, ...]
    status: Status = "completed"


class FunctionCall(Struct, frozen=True, tag_field="type", tag="function_call"):
    """A call that the assistant made."""

    id: str
    call_id: str
    name: str
    arguments: str
    status: Status = "completed"
    namespace: str | UnsetType = UNSET


class FunctionCallOutput(Struct, frozen=True, tag_field="type", tag="function_call_output"):
    """What a call gave back."""

    id: str
    call_id: str
    output: str | tuple[Part, ...]
    status: Status = "completed"


Item = Message | FunctionCall | FunctionCallOutput


class Listed(Struct, frozen=True):
    """An item of a request with where the request has it."""

    item: Item
    path: str
    """`input[2]`, or the field that brought it along."""


def new_id(kind: str) -> str:
    """`resp`, `msg`, `fc`, `fco`."""
    return f"{kind}_{uuid.uuid4().hex}"


def size_bytes(items: tuple[Item, ...]) -> int:
    """What they take in memory, about."""
    return sum(map(_size, items))


def _size(item: Item) -> int:
    match item:
        case Message(_, _, content):
            return ITEM_BYTES + sum(map(_part_size, content))
        case FunctionCall(_, _, _, arguments):
            return ITEM_BYTES + getsizeof(arguments)
        case FunctionCallOutput(_, _, str() as output):
            return ITEM_BYTES + getsizeof(output)
        case FunctionCallOutput(_, _, parts):
            return ITEM_BYTES + sum(_part_size(part) for part in parts if not isinstance(part, str))


def _part_size(part: Part) -> int:
    match part:
        case InputImage(image_url):
            return getsizeof(image_url)
        case InputText(text):
            return getsizeof(text)
        case OutputText(text, _, logprobs):
            return getsizeof(text) + LOGPROB_BYTES * sum(1 + len(each.top_logprobs) for each in logprobs)
