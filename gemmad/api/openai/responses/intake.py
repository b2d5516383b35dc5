"""From a request's input to items, each with an id and a path. Pure."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence

from msgspec import UNSET

from gemmad.api.openai.responses.items import (
    FunctionCall,
    FunctionCallOutput,
    InputImage,
    InputText,
    Item,
    Listed,
    Message,
    OutputText,
    Part,
    new_id,
)
from gemmad.api.openai.responses.schema import (
    CallIn,
    CustomCallIn,
    ImageIn,
    ItemIn,
    MessageIn,
    OutputIn,
    PartIn,
    ReasoningIn,
    ReferenceIn,
    TextIn,
)
from gemmad.errors import InvalidRequestError

Find = Callable[[str], Item | None]
"""A stored item by its id."""


def intake(given: str | Sequence[ItemIn] | None, *, find: Find) -> tuple[Listed, ...]:
    """The request's own items. Raises InvalidRequestError for a reference to nothing, and for misplaced images."""
    if given is None:
        return ()
    if isinstance(given, str):
        return (Listed(Message(new_id("msg"), "user", (InputText(given),)), "input"),)
    return tuple(_listed(given, find))


def _listed(given: Sequence[ItemIn], find: Find) -> Iterator[Listed]:
    for index, each in enumerate(given):
        path = f"input[{index}]"
        if isinstance(each, ReasoningIn):
            continue
        if isinstance(each, ReferenceIn):
            yield Listed(_referred(each, find, path), path)
        else:
            yield Listed(_item(each, path), path)


def _referred(reference: ReferenceIn, find: Find, path: str) -> Item:
    item = find(reference.id)
    if item is None:
        raise InvalidRequestError(
            f"Item with id '{reference.id[:128]}' not found. It was never stored, or newer ones have taken its room.",
            param=f"{path}.id",
            code="item_not_found",
        )
    return item


def _item(each: MessageIn | CallIn | CustomCallIn | OutputIn, path: str) -> Item:
    match each:
        case MessageIn(role=role, content=content):
            speaks = role == "assistant"
            where = f"{path}.content"
            parts = _parts(content, where, spoken=speaks, shown=None if role == "user" else f"of the {role}")
            return Message(each.id or new_id("msg"), role, parts)
        case CallIn(call_id=call_id, name=name, arguments=arguments):
            return FunctionCall(each.id or new_id("fc"), call_id, name, arguments, namespace=each.namespace or UNSET)
        case CustomCallIn(call_id=call_id, name=name, input=text):
            arguments = json.dumps({"input": text}, ensure_ascii=False)
            return FunctionCall(each.id or new_id("fc"), call_id, name, arguments, namespace=each.namespace or UNSET)
        case OutputIn(call_id=call_id, output=output):
            given = output if isinstance(output, str) else _parts(output, f"{path}.output", spoken=False, shown=None)
            return FunctionCallOutput(each.id or new_id("fco"), call_id, given)


def _parts(content: str | Sequence[PartIn], path: str, *, spoken: bool, shown: str | None) -> tuple[Part, ...]:
    """`spoken` by the assistant; `shown` says of whom messages cannot show images, None of who can."""
    words = OutputText if spoken else InputText
    if isinstance(content, str):
        return (words(content),)
    parts: list[Part] = []
    for index, part in enumerate(content):
        match part:
            case TextIn(text=text):
                parts.append(words(text))
            case ImageIn(image_url=url, detail=detail):
                if shown is not None:
                    raise InvalidRequestError(
                        f"Images can be in messages of the user only, not {shown}.", param=f"{path}[{index}].type"
                    )
                parts.append(InputImage(url, detail or "auto"))
            case _:
                parts.append(words(part.refusal))
    return tuple(parts)
