"""What a lesson hands over: a conversation in text and pictures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

from PIL import Image


@dataclass(frozen=True)
class Turn:
    """One message; a part of `content` is text or, for a picture, its image."""

    role: str
    content: tuple[str | Image.Image, ...]


@dataclass(frozen=True)
class Conversation:
    """Turns from an optional system message to the model's last answer, and the task they are an instance of."""

    task: str
    turns: tuple[Turn, ...] = field(default=())

    @property
    def answer(self) -> str:
        """What the model should say last."""
        return "".join(part for part in self.turns[-1].content if isinstance(part, str))


Exchange = tuple[str, str]
Lesson = Callable[[Random], Conversation]


def dialogue(task: str, exchanges: list[Exchange], *, system: str | None = None) -> Conversation:
    """A conversation of question and answer pairs, in text alone."""
    turns = [Turn("system", (system,))] if system is not None else []
    for question, answer in exchanges:
        turns += [Turn("user", (question,)), Turn("assistant", (answer,))]
    return Conversation(task, tuple(turns))


def article(word: str) -> str:
    """`word` after the right one of "a" and "an"."""
    return f"an {word}" if word[0] in "aeiou" else f"a {word}"


def capitalised(text: str) -> str:
    """`text` with its first letter large."""
    return text[0].upper() + text[1:]
