"""A conversation as the text room takes it: who said what, words and pictures in their order."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

Role = Literal["system", "user", "assistant", "tool"]


class TextPart(Struct, frozen=True, tag="text"):
    """Words, as they were typed."""

    text: str


class ImagePart(Struct, frozen=True, tag="image"):
    """The place of one picture."""

    index: int
    """Which of the request's images, from 0, in order of appearance."""


class CallPart(Struct, frozen=True, tag="call"):
    """A call that the assistant made."""

    id: str
    name: str
    arguments: str
    """A JSON object, as text."""


class ResultPart(Struct, frozen=True, tag="result"):
    """Begins what a call gave back: the words and pictures after it in the same message of role `tool`."""

    id: str
    """Of the call."""
    name: str | None = None
    """Of the function, where the client says so; else it follows from the call."""


Part = TextPart | ImagePart | CallPart | ResultPart


class Message(Struct, frozen=True):
    """One message of a request."""

    role: Role
    parts: tuple[Part, ...]
