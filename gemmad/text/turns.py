"""From what clients send to what a chat template takes: an optional system message, then user and assistant in turn.

- Parts: neighbouring texts of one message are one text, joined as they stand.
- Neighbouring messages of one role are one message; where text meets text a blank line parts them.
- The system messages at the beginning are the system message. A later one stays where it is, because order carries
  meaning and an unchanged beginning can be reused, and is said in the user's turn: Gemma has no other place for it.
- A system message that no user message follows (the assistant speaks next, or no one) is the user's turn itself;
  without one, a conversation that the assistant opens gets an empty user turn before it.

Calls and their results are words before they come here (`tools.py`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import assert_never

from gemmad.errors import InvalidRequestError
from gemmad.text.messages import CallPart, ImagePart, Message, Part, ResultPart, Role, TextPart

BLANK_LINE = "\n\n"


def settle(messages: Sequence[Message]) -> tuple[Message, ...]:
    """The conversation as the template takes it. Raises InvalidRequestError on what has no place in it."""
    check_messages(messages)
    turns: list[tuple[Role, list[Part]]] = []
    for role, message in zip(_assign_roles(messages), messages, strict=True):
        parts = _join_texts(message.parts)
        if turns and turns[-1][0] == role:
            turns[-1][1][:] = _join_messages(turns[-1][1], parts)
        else:
            turns.append((role, parts))
    if turns[0][0] == "system" and (len(turns) == 1 or turns[1][0] == "assistant"):
        turns[0] = ("user", turns[0][1])
    elif turns[0][0] == "assistant":
        turns.insert(0, ("user", []))
    return tuple(Message(role, tuple(parts)) for role, parts in turns)


def check_messages(messages: Sequence[Message]) -> None:
    """Raises InvalidRequestError, which names the message, on what no rendering can make sense of."""
    if not messages:
        raise InvalidRequestError("A conversation needs at least one message.", param="messages")
    for number, message in enumerate(messages):
        for part in message.parts:
            _check(part, message.role, number)


def _check(part: Part, role: Role, number: int) -> None:
    match part:
        case TextPart(text):
            check_text(text, f"messages[{number}].content")
        case ImagePart():
            if role == "system":
                raise InvalidRequestError("A system message cannot hold an image.", param=f"messages[{number}].content")
        case CallPart(call_id, name, arguments):
            for text in (call_id, name, arguments):
                check_text(text, f"messages[{number}].tool_calls")
        case ResultPart(call_id, name):
            check_text(call_id, f"messages[{number}].tool_call_id")
            check_text(name or "", f"messages[{number}].name")
        case _:
            assert_never(part)


def check_text(text: str, param: str) -> None:
    """Raises InvalidRequestError on what is no text in any encoding."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InvalidRequestError(
            f"The text has half of a surrogate pair (\\u{ord(text[error.start]):04x}) at {error.start}.", param=param
        ) from error


def _assign_roles(messages: Iterable[Message]) -> list[Role]:
    roles: list[Role] = []
    for message in messages:
        assert message.role != "tool"
        is_late = message.role == "system" and any(role != "system" for role in roles[-1:])
        roles.append("user" if is_late else message.role)
    return roles


def _join_texts(parts: Iterable[Part]) -> list[Part]:
    joined: list[Part] = []
    texts: list[str] = []
    for part in parts:
        if isinstance(part, TextPart):
            texts.append(part.text)
            continue
        assert isinstance(part, ImagePart)
        if texts:
            joined.append(TextPart("".join(texts)))
            texts.clear()
        joined.append(part)
    if texts:
        joined.append(TextPart("".join(texts)))
    return joined


def _join_messages(before: list[Part], after: list[Part]) -> list[Part]:
    if before and after:
        last, first = before[-1], after[0]
        if isinstance(last, TextPart) and isinstance(first, TextPart):
            texts = (text for text in (last.text, first.text) if text)
            return [*before[:-1], TextPart(BLANK_LINE.join(texts)), *after[1:]]
    return [*before, *after]
