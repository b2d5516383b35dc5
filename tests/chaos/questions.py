"""What is asked in a chaos run, and what an answer is.

A question has one right answer: it is greedy, or its sampling has a seed. So the answer of a calm run is the answer of
every run, however often the reply moved from one worker to another.
"""

from __future__ import annotations

import random
from typing import Any

from msgspec import Struct
from PIL import Image

from tests.fakes.media_pictures import data_url, saved

SENTENCES = (
    "Count to 3.",
    "Count to 9.",
    "Repeat after me: the quick brown fox",
    "Repeat after me: a red circle",
    "My name is Ada. What is my name?",
    "Tell me a story.",
    "Hello!",
    "Once upon a time a heron stood in the reeds and waited for the evening. " * 4,
)
WORDS = ("a", "heron", "stood", "in", "the", "reeds", "and", "waited", "for", "3", "evenings", "12", "times,", "then.")
COLOURS = ("red", "green", "blue")
STOPS = ("the", "e", ". ")


class Question(Struct, frozen=True):
    """One request to the chat endpoint."""

    name: str
    fields: dict[str, Any]
    """For `chat.completions.create`, but for the model and `stream`."""
    is_spelled_freely: bool = False
    """The text is the same each time, and not the tokens that spell it."""

    @property
    def choices(self) -> int:
        """How many replies it asks for."""
        return int(self.fields.get("n", 1))


class Answer(Struct, frozen=True):
    """All of a reply that must be the same each time."""

    texts: tuple[str, ...]
    finishes: tuple[str | None, ...]
    prompt_tokens: int
    completion_tokens: int


def questions() -> tuple[Question, ...]:
    """Every kind: greedy and seeded, short and long, with pictures, in several choices, with stop strings."""
    asked = []
    for number, sentence in enumerate(SENTENCES):
        seeded: dict[str, Any] = {"temperature": 1, "seed": 100 + number}
        asked += [
            _question(f"greedy {number}", sentence, temperature=0, max_tokens=24),
            _question(f"seeded {number}", sentence, **seeded, max_tokens=60, endless=True),
            _question(f"seeded to its end {number}", sentence, **seeded, max_tokens=80),
        ]
    for number, stop in enumerate(STOPS):
        sampling = {"temperature": 1, "seed": number, "max_tokens": 60, "stop": [stop, "zebra crossing"]}
        asked.append(_question(f"stop {number}", SENTENCES[5], **sampling, endless=True))
    for number in range(3):
        sampling = {"temperature": 1, "seed": 200 + number, "max_tokens": 40, "n": 2}
        asked.append(_question(f"two choices {number}", SENTENCES[number], **sampling, endless=True))
    for number, colour in enumerate(COLOURS):
        asked += [
            _question(f"picture {number}", _with_picture("What is it?", colour), temperature=0, max_tokens=24),
            _question(
                f"seeded picture {number}",
                _with_picture("What is it?", colour, COLOURS[number - 1]),
                temperature=1,
                seed=number,
                max_tokens=40,
                endless=True,
            ),
        ]
    return tuple(asked)


def held_questions() -> tuple[Question, ...]:
    """Short and long ones, greedy and seeded, in several choices, with pictures: each allows one reply."""
    asked = []
    for number in range(24):
        words = random.Random(number).choices(WORDS, k=10 + 9 * number)
        content: Any = SENTENCES[number % len(SENTENCES)]
        if number % 3 == 0:
            content = _with_picture(content, *COLOURS[: 1 + number % 2])
        fields: dict[str, Any] = {
            "messages": [{"role": "user", "content": content}],
            "temperature": number % 2,
            "seed": number,
            "max_tokens": 4096,
            "n": 2 if number % 5 == 0 else 1,
            "extra_body": {"guided_choice": [" ".join(words)]},
        }
        asked.append(Question(f"held {number}", fields, is_spelled_freely=True))
    return tuple(asked)


def difference(question: Question, *, calm: Answer, wild: Answer) -> str:
    """Where two answers part, in words; empty when they do not."""
    parts = []
    for index, (expected, said) in enumerate(zip(calm.texts, wild.texts, strict=True)):
        if expected != said:
            at = first_difference(expected, said)
            parts.append(f"choice {index} from character {at}: {said[at:]!r} and not {expected[at:]!r}")
    counts = ("prompt_tokens",) if question.is_spelled_freely else ("prompt_tokens", "completion_tokens")
    for name in ("finishes", *counts):
        if getattr(calm, name) != getattr(wild, name):
            parts.append(f"{name} {getattr(wild, name)} and not {getattr(calm, name)}")
    return f"{question.name}: {'; '.join(parts)}" if parts else ""


def difference_so_far(question: Question, *, calm: Answer, said: tuple[str, ...]) -> str:
    """The same for a reply that was left before its end."""
    wrong = [
        f"choice {index} began {text!r} and not {expected!r}"
        for index, (expected, text) in enumerate(zip(calm.texts, said, strict=True))
        if not expected.startswith(text)
    ]
    return f"{question.name}: {'; '.join(wrong)}" if wrong else ""


def first_difference(one: str, other: str) -> int:
    """Where two texts part."""
    return next(
        (at for at, (mine, yours) in enumerate(zip(one, other, strict=False)) if mine != yours),
        min(len(one), len(other)),
    )


def _question(name: str, content: Any, *, endless: bool = False, **fields: Any) -> Question:
    extra = {"extra_body": {"ignore_eos": True}} if endless else {}
    return Question(name, {"messages": [{"role": "user", "content": content}], **fields, **extra})


def _with_picture(text: str, *colours: str) -> list[dict[str, Any]]:
    parts: list[dict[str, Any]] = [{"type": "text", "text": text}]
    for colour in colours:
        url = data_url(saved(Image.new("RGB", (40, 40), colour), "PNG"))
        parts.append({"type": "image_url", "image_url": {"url": url}})
    return parts
