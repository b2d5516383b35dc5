"""What goes out. Field order and presence are the contract."""

from __future__ import annotations

from typing import Literal

import msgspec
from msgspec import Struct

from gemmad.generation import Usage


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


class InputTokensDetails(Struct, frozen=True):
    """`cached_tokens` were not computed again. Writing a cache is no business of the client's here: always 0."""

    cached_tokens: int
    cache_write_tokens: int = 0


class OutputTokensDetails(Struct, frozen=True):
    """There are none."""

    reasoning_tokens: int = 0


class UsageBody(Struct, frozen=True):
    """Sums over all that was computed for the questions."""

    input_tokens: int
    input_tokens_details: InputTokensDetails
    output_tokens: int
    output_tokens_details: OutputTokensDetails
    total_tokens: int

    @classmethod
    def of(cls, usage: Usage) -> UsageBody:
        """From our own."""
        return cls(
            usage.prompt_tokens,
            InputTokensDetails(usage.cached_tokens),
            usage.completion_tokens,
            OutputTokensDetails(),
            usage.prompt_tokens + usage.completion_tokens,
        )


class Decision(Struct, frozen=True):
    """Body of the answer."""

    model: str
    answers: tuple[Answer, ...]
    usage: UsageBody


def encode(body: Decision) -> bytes:
    """JSON."""
    return msgspec.json.encode(body)
