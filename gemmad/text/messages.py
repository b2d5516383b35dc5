"""A conversation as the text room takes it: who said what, words and pictures in their order."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

Role = Literal["system", "user", "assistant"]


class TextPart(Struct, frozen=True, tag="text"):
    """Words, as they were typed."""

    text: str


class ImagePart(Struct, frozen=True, tag="image"):
    """The place of one picture."""

    index: int
    """Which of the request's images, from 0, in order of appearance."""


Part = TextPart | ImagePart


class Message(Struct, frozen=True):
    """One message of a request."""

    role: Role
    parts: tuple[Part, ...]
