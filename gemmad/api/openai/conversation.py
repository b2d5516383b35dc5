"""A chat request as the rooms below understand it: messages, images, how to sample. Pure."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from typing import TypeVar

from msgspec import Struct

from gemmad.api.openai.schema import ChatMessage, ChatRequest, TextContent
from gemmad.config.schema import SamplingSection
from gemmad.errors import ContextLengthError, InvalidRequestError
from gemmad.generation import SamplingParams
from gemmad.text.checkpoint import GenerationDefaults
from gemmad.text.messages import ImagePart, Message, Part, TextPart

T = TypeVar("T", int, float)


class ImageAsked(Struct, frozen=True):
    """An image that a request shows, and the path of the field that says so."""

    url: str
    param: str


class Conversation(Struct, frozen=True):
    """What was said. `ImagePart.index` counts through `images`."""

    messages: tuple[Message, ...]
    images: tuple[ImageAsked, ...]

    @property
    def characters(self) -> int:
        """Length of all its text."""
        return sum(len(part.text) for message in self.messages for part in message.parts if isinstance(part, TextPart))


def conversation(chat: ChatRequest, *, max_images: int) -> Conversation:
    """Raises InvalidRequestError for images by others than the user, and for too many."""
    images: list[ImageAsked] = []
    messages = tuple(_message(message, index, images, max_images) for index, message in enumerate(chat.messages))
    return Conversation(messages, tuple(images))


def _message(message: ChatMessage, index: int, images: list[ImageAsked], max_images: int) -> Message:
    role = "system" if message.role == "developer" else message.role
    if isinstance(message.content, str):
        return Message(role, (TextPart(message.content),))
    return Message(role, tuple(_parts(message, f"messages[{index}].content", images, max_images)))


def _parts(message: ChatMessage, path: str, images: list[ImageAsked], max_images: int) -> Iterator[Part]:
    for index, part in enumerate(message.content):
        if isinstance(part, TextContent):
            yield TextPart(part.text)
            continue
        assert not isinstance(part, str)
        param = f"{path}[{index}].image_url.url"
        if message.role != "user":
            raise InvalidRequestError(
                f"Images can be in messages of the user only, not of the {message.role}.", param=param
            )
        if len(images) == max_images:
            raise InvalidRequestError(f"A request can have {max_images} images at most.", param=param)
        images.append(ImageAsked(part.image_url.url, param))
        yield ImagePart(len(images) - 1)


def sampling_params(
    chat: ChatRequest,
    *,
    section: SamplingSection,
    defaults: GenerationDefaults,
    stop_token_ids: tuple[int, ...],
    room: int,
    random_seed: Callable[[], int] = lambda: secrets.randbits(63),
) -> SamplingParams:
    """What the request asks for, else what the config says, else the checkpoint. `room` is what the context leaves."""
    top_k = _first(chat.top_k, section.top_k, defaults.top_k)
    max_tokens = _asked_tokens(chat) or min(section.max_tokens or room, room)
    min_tokens = chat.min_tokens or 0
    if min_tokens > max_tokens:
        raise InvalidRequestError(
            f"'min_tokens' is {min_tokens}, and the reply has room for {max_tokens} tokens.", param="min_tokens"
        )
    return SamplingParams(
        temperature=_first(chat.temperature, section.temperature, defaults.temperature),
        top_k=max(top_k, 0),
        top_p=_first(chat.top_p, section.top_p, defaults.top_p),
        min_p=_first(chat.min_p, section.min_p, defaults.min_p),
        seed=random_seed() if chat.seed is None else chat.seed,
        max_tokens=max_tokens,
        min_tokens=min_tokens,
        stop_token_ids=() if chat.ignore_eos else stop_token_ids,
    )


def choice_seed(seed: int, index: int) -> int:
    """The seed of a choice, in signed 64 bits: the request's own for the first, then one more for each.

    So a choice can be had again alone. (Streams of neighbouring seeds are independent: the generator is keyed.)
    """
    return (seed + index + (1 << 63)) % (1 << 64) - (1 << 63)


def room_in_context(chat: ChatRequest, *, prompt_tokens: int, max_context: int) -> int:
    """Tokens that a reply may have. Raises ContextLengthError when there are none, or fewer than asked for."""
    room = max_context - prompt_tokens
    maximum = f"This model's maximum context length is {max_context} tokens."
    if room < 1:
        raise ContextLengthError(
            f"{maximum} However, your messages resulted in {prompt_tokens} tokens. "
            "Please reduce the length of the messages."
        )
    asked = _asked_tokens(chat)
    if asked is not None and asked > room:
        raise ContextLengthError(
            f"{maximum} However, you requested {prompt_tokens + asked} tokens ({prompt_tokens} in the messages, "
            f"{asked} in the completion). Please reduce the length of the messages or completion."
        )
    return room


def stop_strings(chat: ChatRequest) -> tuple[str, ...]:
    """One or several, as a tuple."""
    if chat.stop is None:
        return ()
    return (chat.stop,) if isinstance(chat.stop, str) else tuple(chat.stop)


def _asked_tokens(chat: ChatRequest) -> int | None:
    asked = [limit for limit in (chat.max_tokens, chat.max_completion_tokens) if limit is not None]
    return min(asked, default=None)


def _first(asked: T | None, configured: T | None, default: T) -> T:
    if asked is not None:
        return asked
    return default if configured is None else configured
