"""What goes out. Field order and presence are the contract."""

from __future__ import annotations

from typing import Literal

import msgspec
from msgspec import Struct

from gemmad.api.openai.usage import UsageBody


class Predicate(Struct, frozen=True, kw_only=True):
    """How likely the statement is to be true."""

    type: Literal["predicate"] = "predicate"
    name: str | None
    probability: float


class ChoiceProbability(Struct, frozen=True):
    """One option."""

    value: str | bool
    probability: float


class Choice(Struct, frozen=True, kw_only=True):
    """The likeliest option; `confidence` is its probability."""

    type: Literal["choice"] = "choice"
    name: str | None
    choice: str | bool
    confidence: float
    probabilities: tuple[ChoiceProbability, ...]


class ScoreProbability(Struct, frozen=True):
    """One level; `value` counts them from 0."""

    value: int
    label: str
    probability: float


class Score(Struct, frozen=True, kw_only=True):
    """The expected value; `confidence` is the likeliest level's probability."""

    type: Literal["score"] = "score"
    name: str | None
    score: float
    confidence: float
    probabilities: tuple[ScoreProbability, ...]


Answer = Predicate | Choice | Score


class Decision(Struct, frozen=True):
    """Body of the answer."""

    model: str
    answers: tuple[Answer, ...]
    usage: UsageBody


def encode(body: Decision) -> bytes:
    """JSON."""
    return msgspec.json.encode(body)
