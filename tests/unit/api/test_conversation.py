from __future__ import annotations

from typing import Any

from gemmad.api.openai.chat_schema import ChatRequest
from gemmad.api.openai.conversation import chat_ask, conversation
from gemmad.api.openai.schema import parse
from gemmad.text.messages import ImagePart, Message, TextPart


def chat(messages: Any = None, **fields: Any) -> ChatRequest:
    return parse(ChatRequest, {"model": "m", "messages": messages or [{"role": "user", "content": "Hi"}], **fields})


def test_images_are_counted_through_the_request() -> None:
    """Images have the order in which they appear, over all messages, and know their field."""

    def image(url: str) -> dict[str, Any]:
        return {"type": "image_url", "image_url": {"url": url, "detail": "low"}}

    talk = conversation(
        chat(
            [
                {"role": "developer", "content": "Be brief."},
                {"role": "user", "content": [image("a"), {"type": "text", "text": "and"}, image("b")]},
                {"role": "assistant", "content": "Both."},
                {"role": "user", "content": [image("c")]},
            ]
        ),
        max_images=3,
    )
    assert talk.messages == (
        Message("system", (TextPart("Be brief."),)),
        Message("user", (ImagePart(0), TextPart("and"), ImagePart(1))),
        Message("assistant", (TextPart("Both."),)),
        Message("user", (ImagePart(2),)),
    )
    assert [image.url for image in talk.images] == ["a", "b", "c"]
    assert talk.images[2].param == "messages[3].content[0].image_url.url"
    assert talk.characters == len("Be brief.andBoth.")


def test_stop_strings() -> None:
    """One, several or none."""
    assert chat().stops() == ()
    assert chat(stop="a").stops() == ("a",)
    assert chat(stop=["a", "b"]).stops() == ("a", "b")


def test_two_names_of_one_limit() -> None:
    """The smaller of max_tokens and max_completion_tokens counts, and errors name the one that did."""

    def asked(**fields: Any) -> tuple[int | None, str]:
        ask = chat_ask(chat(**fields), model="m", max_images=0)
        return ask.wishes.max_tokens, ask.names.max_tokens

    assert asked() == (None, "max_tokens")
    assert asked(max_tokens=5) == (5, "max_tokens")
    assert asked(max_completion_tokens=5) == (5, "max_completion_tokens")
    assert asked(max_tokens=5, max_completion_tokens=4) == (4, "max_completion_tokens")
    assert asked(max_tokens=3, max_completion_tokens=4) == (3, "max_tokens")
