"""From what clients send to what a chat template takes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gemmad.errors import InvalidRequestError
from gemmad.text.messages import ImagePart, Message, Part, Role, TextPart
from gemmad.text.turns import settle


def say(role: Role, *parts: str | int) -> Message:
    return Message(role, tuple(TextPart(part) if isinstance(part, str) else ImagePart(part) for part in parts))


def settled(*messages: Message) -> list[tuple[str, list[str | int]]]:
    return [(turn.role, [show(part) for part in turn.parts]) for turn in settle(messages)]


def show(part: Part) -> str | int:
    assert isinstance(part, TextPart | ImagePart)
    return part.text if isinstance(part, TextPart) else part.index


def test_ordinary_conversation_is_left_alone() -> None:
    """System, user and assistant in turn stay as they are."""
    messages = (say("system", "S"), say("user", "a", 0, "b"), say("assistant", "c"), say("user", " d "))
    assert settle(messages) == messages


def test_joins_neighbouring_texts() -> None:
    """Texts of one message that stand side by side are joined as they stand; images part them."""
    assert settled(say("user", "a ", "b", 0, 1, "c", "", "d")) == [("user", ["a b", 0, 1, "cd"])]


def test_merges_one_role() -> None:
    """Messages of one role in a row are one, a blank line between their texts."""
    assert settled(say("user", "a"), say("user", "b", 0), say("user", 1, "c"), say("user", "d")) == [
        ("user", ["a\n\nb", 0, 1, "c\n\nd"])
    ]


def test_merging_with_nothing_adds_nothing() -> None:
    """An empty message leaves its neighbour as it is."""
    assert settled(say("user", ""), say("user", "a"), say("user")) == [("user", ["a"])]


def test_first_systems_are_one() -> None:
    """System messages at the beginning are one system message."""
    assert settled(say("system", "S"), say("system", "T"), say("user", "a")) == [
        ("system", ["S\n\nT"]),
        ("user", ["a"]),
    ]


def test_late_system_is_said_by_the_user() -> None:
    """A system message within the conversation stays in its place, in the user's turn."""
    assert settled(
        say("system", "S"),
        say("user", "a"),
        say("assistant", "b"),
        say("system", "T"),
        say("user", "c"),
        say("system", "U"),
    ) == [("system", ["S"]), ("user", ["a"]), ("assistant", ["b"]), ("user", ["T\n\nc\n\nU"])]


def test_only_system() -> None:
    """A system message alone is what the user says."""
    assert settled(say("system", "S")) == [("user", ["S"])]


def test_system_then_assistant() -> None:
    """A system message that the assistant follows is the user's turn."""
    assert settled(say("system", "S"), say("assistant", "a")) == [("user", ["S"]), ("assistant", ["a"])]


def test_assistant_opens() -> None:
    """A conversation that the assistant opens gets an empty user turn before it."""
    assert settled(say("assistant", "a"), say("user", "b")) == [("user", []), ("assistant", ["a"]), ("user", ["b"])]


def test_no_messages() -> None:
    """A conversation without messages is refused."""
    with pytest.raises(InvalidRequestError) as caught:
        settle([])
    assert caught.value.param == "messages"


def test_image_in_system() -> None:
    """An image in a system message is refused, and the message named."""
    with pytest.raises(InvalidRequestError) as caught:
        settle([say("system", "S"), say("system", 0), say("user", "a")])
    assert caught.value.param == "messages[1].content"


@pytest.mark.parametrize("text", ["\ud800", "fine \udfff here", "\udc00\ud800"])
def test_lone_surrogate(text: str) -> None:
    """Half of a surrogate pair is refused, and the message named."""
    with pytest.raises(InvalidRequestError, match="surrogate") as caught:
        settle([say("user", "a"), say("assistant", "b", text)])
    assert caught.value.param == "messages[1].content"


roles: st.SearchStrategy[Role] = st.sampled_from(["system", "user", "assistant"])
texts: st.SearchStrategy[tuple[Part, ...]] = st.lists(st.text(alphabet="ab ").map(TextPart), max_size=3).map(tuple)


@given(messages=st.lists(st.builds(Message, role=roles, parts=texts), min_size=1))
def test_always_alternates(messages: list[Message]) -> None:
    """Whatever comes in, at most one system message, then user and assistant in turn, and no word is lost."""
    turns = settle(messages)
    said = [turn.role for turn in turns if turn.role != "system"]
    assert [turn.role for turn in turns].count("system") == len(turns) - len(said) <= 1
    assert said
    assert all(role == ("user", "assistant")[number % 2] for number, role in enumerate(said))
    before = "".join(part.text for message in messages for part in message.parts if isinstance(part, TextPart))
    after = "".join(part.text for turn in turns for part in turn.parts if isinstance(part, TextPart))
    assert after.replace("\n\n", "") == before
