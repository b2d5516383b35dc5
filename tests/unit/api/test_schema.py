from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gemmad.api.openai.chat_schema import ChatMessage, ChatRequest
from gemmad.api.openai.conversation import chat_ask
from gemmad.api.openai.parameters import CHAT, MESSAGE, refuse_unsupported
from gemmad.api.openai.schema import field_path, parse
from gemmad.errors import InvalidRequestError
from tests.unit.api.test_body import JSON

GOOD: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}
NAMES = st.sampled_from([*ChatRequest.model_fields, *(parameter.name for parameter in CHAT)])


def parse_chat(body: dict[str, Any]) -> ChatRequest:
    return parse(ChatRequest, body)


def fault(body: dict[str, Any]) -> str | None:
    """The path that is blamed for a request; None when it is taken."""
    try:
        refuse_unsupported(body)
        chat_ask(parse_chat(body), model="m", max_images=10)
    except InvalidRequestError as error:
        return error.param or "nothing"
    return None


def test_paths() -> None:
    """A path is written as OpenAI writes it, without the names of union branches."""
    assert field_path(("messages", 1, "content", "<list>", 0, "<image>", "image_url", "url")) == (
        "messages[1].content[0].image_url.url"
    )
    assert field_path(()) == ""


def test_whole_floats_are_integers() -> None:
    """16.0 is 16, since some languages write it so; 16.5 is not."""
    assert parse_chat(GOOD | {"max_tokens": 16.0}).max_tokens == 16
    with pytest.raises(InvalidRequestError):
        parse_chat(GOOD | {"max_tokens": 16.5})


def test_null_is_absent() -> None:
    """Every optional field may be null."""
    optional = [name for name, field in ChatRequest.model_fields.items() if not field.is_required()]
    assert parse_chat(GOOD | dict.fromkeys(optional)) == parse_chat(GOOD)


def test_only_the_first_fault_is_told() -> None:
    """Of ten thousand bad entries one is named, and the others cost nothing."""
    with pytest.raises(InvalidRequestError) as caught:
        parse_chat(GOOD | {"messages": [{"role": "x"}] * 10_000})
    assert caught.value.param == "messages[0].role"


def test_the_tables_and_the_schema_agree() -> None:
    """What the table calls honoured is in the schema, and nothing else is."""
    assert {parameter.name for parameter in CHAT if parameter.handling == "honoured"} == set(ChatRequest.model_fields)
    assert {parameter.name for parameter in MESSAGE if parameter.handling == "honoured"} == set(
        ChatMessage.model_fields
    )
    for table in (CHAT, MESSAGE):
        assert len({parameter.name for parameter in table}) == len(table)


def test_null_asks_for_nothing() -> None:
    """Every field that is refused may be null."""
    refuse_unsupported(GOOD | {parameter.name: None for parameter in CHAT})


@given(st.dictionaries(NAMES, JSON, max_size=5))
def test_any_values_are_taken_or_refused_by_name(change: dict[str, Any]) -> None:
    """Whatever a field holds, the request is taken, or refused with a path that begins with one of its fields."""
    body = GOOD | change
    blamed = fault(body)
    assert blamed is None or blamed.split(".")[0].split("[")[0] in body


@given(st.lists(st.dictionaries(st.sampled_from(["role", "content", "name", "tool_calls"]), JSON), max_size=3))
def test_any_messages_are_taken_or_refused_by_name(messages: list[dict[str, Any]]) -> None:
    """Whatever the messages are, the request is taken, or refused with a path inside them."""
    blamed = fault(GOOD | {"messages": messages})
    assert blamed is None or blamed.startswith("messages")
