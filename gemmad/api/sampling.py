"""How a reply is drawn: what the request wishes, else what the config says, else the checkpoint. Pure."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import TypeVar

from gemmad.api.asks import Ask, Conversation
from gemmad.config.schema import SamplingSection
from gemmad.errors import ContextLengthError, InvalidRequestError
from gemmad.generation import SamplingParams
from gemmad.text.checkpoint import TextModel

T = TypeVar("T", int, float)


def sampling_params(
    ask: Ask,
    *,
    section: SamplingSection,
    text: TextModel,
    room: int,
    random_seed: Callable[[], int] = lambda: secrets.randbits(63),
) -> SamplingParams:
    """All but the grammar. `room` is what the context leaves.

    Raises InvalidRequestError for what only model and context can tell: ids outside the vocabulary, more tokens at
    least than at most.
    """
    wishes, defaults = ask.wishes, text.defaults
    top_k = _first(wishes.top_k, section.top_k, defaults.top_k)
    max_tokens = min(wishes.max_tokens or section.max_tokens or room, room)
    if wishes.min_tokens > max_tokens:
        raise InvalidRequestError(
            f"'min_tokens' is {wishes.min_tokens}, and the reply has room for {max_tokens} tokens.", param="min_tokens"
        )
    for token_id, _ in wishes.logit_bias:
        check_vocabulary(token_id, text, param=ask.names.logit_bias)
    return SamplingParams(
        temperature=_first(wishes.temperature, section.temperature, defaults.temperature),
        top_k=max(top_k, 0),
        top_p=_first(wishes.top_p, section.top_p, defaults.top_p),
        min_p=_first(wishes.min_p, section.min_p, defaults.min_p),
        seed=random_seed() if wishes.seed is None else wishes.seed,
        max_tokens=max_tokens,
        min_tokens=wishes.min_tokens,
        stop_token_ids=() if wishes.ignore_eos else text.stop_token_ids,
        frequency_penalty=wishes.frequency_penalty,
        presence_penalty=wishes.presence_penalty,
        repetition_penalty=wishes.repetition_penalty,
        logit_bias=tuple(sorted(wishes.logit_bias)),
        logprobs=wishes.logprobs,
    )


def check_vocabulary(token_id: int, text: TextModel, *, param: str) -> None:
    """Raises InvalidRequestError for an id that the model does not have."""
    if not 0 <= token_id < text.vocab_size:
        raise InvalidRequestError(
            f"Token id {token_id} is outside the vocabulary: this model has ids 0 to {text.vocab_size - 1}.",
            param=param,
            code="invalid_value",
        )


def choice_seed(seed: int, index: int) -> int:
    """The seed of a choice, in signed 64 bits: the request's own for the first, then one more for each.

    So a choice can be had again alone. (Streams of neighbouring seeds are independent: the generator is keyed.)
    """
    return (seed + index + (1 << 63)) % (1 << 64) - (1 << 63)


def room_in_context(ask: Ask, *, prompt_tokens: int, max_context: int) -> int:
    """Tokens that a reply may have. Raises ContextLengthError when there are none, or fewer than asked for."""
    room, param = max_context - prompt_tokens, ask.prompt.param
    what = "messages" if isinstance(ask.prompt, Conversation) else "prompt"
    maximum = f"This model's maximum context length is {max_context} tokens."
    if room < 1:
        raise ContextLengthError(
            f"{maximum} However, your {what} resulted in {prompt_tokens} tokens. "
            f"Please reduce the length of the {what}.",
            param=param,
            prompt_tokens=prompt_tokens,
            limit_tokens=max_context,
        )
    asked = ask.wishes.max_tokens
    if asked is not None and asked > room and not ask.wishes.shorten:
        raise ContextLengthError(
            f"{maximum} However, you requested {prompt_tokens + asked} tokens ({prompt_tokens} in the {what}, "
            f"{asked} in the completion). Please reduce the length of the {what} or completion.",
            param=param,
        )
    return room


def _first(asked: T | None, configured: T | None, default: T) -> T:
    if asked is not None:
        return asked
    return default if configured is None else configured
