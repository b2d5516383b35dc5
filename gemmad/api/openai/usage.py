"""Token counts as OpenAI's newer endpoints tell them; chat completions have other names for them."""

from __future__ import annotations

from msgspec import Struct

from gemmad.generation import Usage


class InputTokensDetails(Struct, frozen=True):
    """`cached_tokens` were not computed again; OpenAI bills what it writes to its cache."""

    cached_tokens: int
    cache_write_tokens: int = 0


class OutputTokensDetails(Struct, frozen=True):
    """The model does not reason aside."""

    reasoning_tokens: int = 0


class UsageBody(Struct, frozen=True):
    """Token counts; where one request was computed in parts, their sums."""

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
