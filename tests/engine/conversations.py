"""Conversations that between them touch all that a prompt can be: 44 of them, as transformers takes messages."""

from __future__ import annotations

from typing import Any

from tests.engine.oracle import picture

Messages = list[dict[str, Any]]

FILLER = "The river runs past the old mill and the people of the village walk there in the evening. "


def text(value: str) -> dict[str, Any]:
    """A text part."""
    return {"type": "text", "text": value}


def image(seed: int) -> dict[str, Any]:
    """An image part."""
    return {"type": "image", "image": picture(seed, size=(90 + 13 * seed, 120 - 7 * seed))}


def turn(role: str, *parts: dict[str, Any]) -> dict[str, Any]:
    """One message."""
    return {"role": role, "content": list(parts)}


def conversations() -> list[Messages]:
    """Short and long, with and without system message, turns and images; most are longer than the window."""
    return [
        *([turn("user", text(f"Count to {n}."))] for n in (3, 7, 12, 30)),
        *([turn("user", text(f"Repeat: {words}"))] for words in ("red fox", "one two three four", "hello, 42!")),
        *([turn("user", text(FILLER * n + "Count to 5."))] for n in (1, 3, 5, 8, 12, 16, 24)),
        *([turn("system", text(f"You are called {n}.")), turn("user", text("What is your name?"))] for n in NAMES),
        *([turn("system", text(FILLER * n)), turn("user", text("Hello"))] for n in (2, 9)),
        *(recall(name, between) for name in NAMES[:3] for between in (0, 1, 3)),
        *([turn("user", image(seed), text("What is in the picture?"))] for seed in range(1, 5)),
        *([turn("user", text("What is in the picture?"), image(seed))] for seed in range(3, 5)),
        *([turn("user", image(a), image(b), text("Describe both pictures."))] for a, b in ((1, 2), (2, 1), (5, 5))),
        [turn("user", text(FILLER * 6), image(6), text(FILLER * 2), image(7), image(8), text("What do you see?"))],
        [turn("user", image(1)), turn("model", text("A red circle.")), turn("user", text("And now?"), image(2))],
        [turn("user", text("ünïcödé 漢字 🙂")), turn("model", text("🙂")), turn("user", text("Say it again."))],
        [turn("user", text("Tell me a story."))],
    ]


NAMES = ("Ada", "Grace", "Linus", "Margaret")


def recall(name: str, between: int) -> Messages:
    """A name, some turns that have nothing to do with it, and the question."""
    first = [turn("user", text(f"My name is {name}.")), turn("model", text(f"Nice to meet you, {name}."))]
    others = [m for i in range(between) for m in (turn("user", text(FILLER)), turn("model", text(f"Yes, {i}.")))]
    return [*first, *others, turn("user", text("What is my name?"))]
