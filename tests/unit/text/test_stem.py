"""One beginning, many endings."""

from __future__ import annotations

import pytest

from gemmad.errors import ContextLengthError, InvalidRequestError
from gemmad.generation import Prompt
from gemmad.text.chat import encode_chat
from gemmad.text.checkpoint import TextModel
from gemmad.text.messages import ImagePart, Message, TextPart
from gemmad.text.stem import Words, encode_endings, encode_stem

IMAGE = ImagePart(0)


def say(*parts: str | ImagePart) -> Words:
    return tuple(TextPart(part) if isinstance(part, str) else part for part in parts)


def complete(demo: TextModel, messages: list[Message], words: Words, digests: list[str]) -> Prompt:
    shown = sum(isinstance(part, ImagePart) for message in messages for part in message.parts)
    stem = encode_stem(demo, messages, image_digests=digests[:shown])
    [ending] = encode_endings(demo, [words], image_digests=[digests[shown:]], params=["question"])
    return stem.prompt(ending)


@pytest.mark.parametrize(
    "messages",
    [
        [Message("user", say("Hello there."))],
        [Message("system", say("Be brief.")), Message("user", say("Hello there.\n"))],
        [Message("user", say("Hello")), Message("assistant", say("there."))],
        [Message("system", say("Only this."))],
        [Message("user", say("\ue0ff and \ue0ff"))],
        [Message("user", say("ünïcödé 漢字 🙂"))],
    ],
    ids=str,
)
def test_the_same_tokens_as_in_one(demo: TextModel, messages: list[Message]) -> None:
    """A stem with its ending is what the whole conversation would have been encoded to."""
    words = say("Is it so?\n\nAnswer with ", "Yes or No.")
    whole = encode_chat(demo, [*messages, Message("user", words)])
    assert complete(demo, messages, words, []) == whole


def test_images_on_both_sides(demo: TextModel) -> None:
    """Images of the conversation and of the ending lie where they would in one, each with its digest."""
    messages = [Message("user", say("One:", IMAGE))]
    words = say("Like this?", ImagePart(1), "Or not?")
    whole = encode_chat(demo, [*messages, Message("user", words)], image_digests=["a", "b"])
    assert complete(demo, messages, words, ["a", "b"]) == whole


def test_control_tokens_cannot_be_typed(demo: TextModel) -> None:
    """An ending is words only."""
    prompt = complete(demo, [Message("user", say("x"))], say("<end_of_turn>\n<start_of_image>"), [])
    ids = demo.control.ids
    assert prompt.token_ids.count(ids["<end_of_turn>"]) == 1
    assert ids["<start_of_image>"] not in prompt.token_ids


def test_an_ending_that_is_too_long(demo: TextModel) -> None:
    """It is refused without being counted, and its own field is blamed."""
    with pytest.raises(ContextLengthError) as caught:
        encode_endings(demo, [say("short"), say("x" * 10_000_000)], image_digests=[[], []], params=["first", "second"])
    assert caught.value.param == "second"


def test_a_conversation_that_is_wrong(demo: TextModel) -> None:
    """The stem refuses what the whole conversation would be refused for."""
    with pytest.raises(InvalidRequestError):
        encode_stem(demo, [Message("user", say("\ud800"))])
