"""Requests in Anthropic's words, as all dialects mean them."""

from __future__ import annotations

from typing import Any

import pytest

from gemmad.api.anthropic.asking import counting_ask, messages_ask
from gemmad.api.anthropic.parameters import MESSAGES, refuse_unsupported
from gemmad.api.anthropic.schema import MessagesRequest, parse
from gemmad.api.asks import Ask, Conversation, ImageAsked
from gemmad.errors import InvalidRequestError
from gemmad.generation import Tool, ToolChoice
from gemmad.grammar.spec import JsonSchema
from gemmad.text.messages import CallPart, ImagePart, Message, ResultPart, TextPart

USER = {"role": "user", "content": "Hi"}
WEATHER = {"name": "weather", "description": "Tells it.", "input_schema": {"type": "object", "properties": {"b": {}}}}
CALL = {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {"b": 1, "a": "ü"}, "caller": None}
IMAGE = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}}


def ask(**fields: Any) -> Ask:
    body = {"model": "gemma", "max_tokens": 10, "messages": [USER], **fields}
    refuse_unsupported(MESSAGES, body)
    return messages_ask(parse(MessagesRequest, body), model="gemma", max_images=2)


def talk(*messages: dict[str, Any], **fields: Any) -> Conversation:
    prompt = ask(messages=list(messages), **fields).prompt
    assert isinstance(prompt, Conversation)
    return prompt


def refused(**fields: Any) -> InvalidRequestError:
    with pytest.raises(InvalidRequestError) as caught:
        ask(**fields)
    return caught.value


def user(*blocks: dict[str, Any]) -> dict[str, Any]:
    return {"role": "user", "content": list(blocks)}


def assistant(*blocks: dict[str, Any]) -> dict[str, Any]:
    return {"role": "assistant", "content": list(blocks)}


def result(**fields: Any) -> dict[str, Any]:
    return {"type": "tool_result", "tool_use_id": "toolu_1", **fields}


def test_system() -> None:
    """The system's words come first, each block as a message; a later system message stays where it is."""
    said = talk(USER, {"role": "system", "content": "Later."}, USER, system=[{"type": "text", "text": "First."}])
    assert said.messages[0] == Message("system", (TextPart("First."),))
    assert [message.role for message in said.messages] == ["system", "user", "system", "user"]
    assert talk(USER, system="Be brief.").messages[0] == Message("system", (TextPart("Be brief."),))


def test_the_billing_line() -> None:
    """The line that Claude Code puts before everything, which changes all the time, is not said to the model."""
    blocks = [{"type": "text", "text": text} for text in ("x-anthropic-billing-header: cc_version=1;", "Be brief.")]
    assert talk(USER, system=blocks) == talk(USER, system="Be brief.")


def test_a_call_and_its_result() -> None:
    """Arguments keep their order, and results are messages of their own, before the words that come after them."""
    said = talk(
        USER,
        assistant({"type": "text", "text": "Wait."}, CALL),
        user(result(content=[{"type": "text", "text": "12"}, IMAGE]), {"type": "text", "text": "And?"}),
    )
    assert said.messages[1:] == (
        Message("assistant", (TextPart("Wait."), CallPart("toolu_1", "weather", '{"b": 1, "a": "ü"}'))),
        Message("tool", (ResultPart("toolu_1"), TextPart("12"), ImagePart(0))),
        Message("user", (TextPart("And?"),)),
    )
    assert said.images == (ImageAsked("data:;base64,AAAA", "messages[2].content[0].content[1].source.data"),)


def test_results_without_much() -> None:
    """A result may be a string, nothing at all, or an error, which is told as one."""
    for content, parts in (
        ({"content": "12"}, (TextPart("12"),)),
        ({}, ()),
        ({"content": "no such place", "is_error": True}, (TextPart("Error: "), TextPart("no such place"))),
    ):
        said = talk(USER, assistant(CALL), user(result(**content)))
        assert said.messages[2] == Message("tool", (ResultPart("toolu_1"), *parts))


def test_other_blocks() -> None:
    """Thoughts of another model are left out; text documents and search results are their text."""
    said = talk(
        user(
            {
                "type": "document",
                "title": "Manual",
                "source": {"type": "text", "media_type": "text/plain", "data": "X"},
            },
            {"type": "search_result", "title": "T", "source": "S", "content": [{"type": "text", "text": "Y"}]},
            {"type": "image", "source": {"type": "url", "url": "https://example.org/a.png"}},
        ),
        assistant(
            {"type": "thinking", "thinking": "Hm", "signature": "s"},
            {"type": "redacted_thinking", "data": "s"},
            {"type": "text", "text": "Yes."},
        ),
        USER,
    )
    assert said.messages[0].parts == (TextPart("Manual\nX"), TextPart("T\nS\nY"), ImagePart(0))
    assert said.messages[1].parts == (TextPart("Yes."),)
    assert said.images == (ImageAsked("https://example.org/a.png", "messages[0].content[2].source.url"),)


def test_going_on() -> None:
    """A conversation that ends with the assistant is gone on with; an empty message of it is no message."""
    assert ask(messages=[USER, assistant({"type": "text", "text": "The answer is"})]).continue_final
    assert not ask(messages=[USER, assistant()]).continue_final
    assert not ask().continue_final


def test_wishes() -> None:
    """What is asked for is what is wished for; a reply may be shorter than its limit for want of context."""
    wishes = ask(temperature=0.5, top_p=0.9, top_k=3, seed=7, max_tokens=32_000, stop_sequences=["a", "b"]).wishes
    assert (wishes.temperature, wishes.top_p, wishes.top_k, wishes.seed) == (0.5, 0.9, 3, 7)
    assert (wishes.max_tokens, wishes.shorten, wishes.stop) == (32_000, True, ("a", "b"))


def test_tools() -> None:
    """A tool's schema is told as it came; what is the client's own business is left out."""
    asked = ask(tools=[WEATHER | {"type": "custom", "cache_control": {"type": "ephemeral"}, "strict": True}])
    assert asked.tools == (Tool("weather", "Tells it.", '{"type": "object", "properties": {"b": {}}}', True),)
    assert asked.tool_choice == ToolChoice()


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ({"type": "auto"}, ToolChoice()),
        ({"type": "auto", "disable_parallel_tool_use": True}, ToolChoice(parallel=False)),
        ({"type": "any"}, ToolChoice(mode="required")),
        ({"type": "none"}, ToolChoice(mode="none")),
        (
            {"type": "tool", "name": "weather", "disable_parallel_tool_use": True},
            ToolChoice(mode="required", allowed=("weather",), parallel=False),
        ),
    ],
)
def test_choices(said: dict[str, Any], meant: ToolChoice) -> None:
    """Every way to choose a tool has its meaning."""
    assert ask(tools=[WEATHER], tool_choice=said).tool_choice == meant


def test_structured_output() -> None:
    """A schema holds the reply, by the newer name and the older one, not by both; errors name the one that was used."""
    wanted = {"type": "json_schema", "schema": {"type": "object", "required": ["z", "a"]}}
    schema = JsonSchema('{"type": "object", "required": ["z", "a"]}', strict=True)
    new, old = ask(output_config={"format": wanted, "effort": "high"}), ask(output_format=wanted)
    assert new.grammar == old.grammar == schema
    assert new.names.grammar == "output_config.format.schema"
    assert old.names.grammar == "output_format.schema"
    assert refused(output_config={"format": wanted}, output_format=wanted).param == "output_format"


def test_what_claude_code_sends_besides() -> None:
    """What it sends with every request, and has no meaning here, changes nothing."""
    extras = {
        "thinking": {"type": "adaptive"},
        "context_management": {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]},
        "metadata": {"user_id": "{}"},
        "output_config": {"effort": "high"},
        "cache_control": {"type": "ephemeral"},
        "something_new": [1],
    }
    assert ask(**extras) == ask()
    for thinking in ({"type": "enabled", "budget_tokens": 2048}, {"type": "disabled"}, {"type": "enabled"}):
        assert ask(thinking=thinking) == ask()


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"messages": []}, "messages"),
        ({"messages": [assistant()]}, "messages"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "user"}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": 5}]}, "messages[0].content"),
        ({"messages": [user({"type": "text"})]}, "messages[0].content[0].text"),
        ({"messages": [user({"type": "video"})]}, "messages[0].content[0]"),
        ({"messages": [user({"text": "x"})]}, "messages[0].content[0]"),
        ({"messages": [user(CALL)]}, "messages[0].content[0]"),
        ({"messages": [assistant(IMAGE)]}, "messages[0].content[0]"),
        ({"messages": [USER, assistant(result())]}, "messages[1].content[0]"),
        ({"messages": [USER, assistant(CALL)]}, "messages[1].content[0].id"),
        ({"messages": [USER, assistant(CALL), USER]}, "messages[1].content[0].id"),
        ({"messages": [USER, user(result())]}, "messages[1].content[0].tool_use_id"),
        ({"messages": [user(IMAGE, IMAGE, IMAGE)]}, "messages[0].content[2].source.data"),
        (
            {"messages": [user(IMAGE | {"source": {"type": "file", "file_id": "f"}})]},
            "messages[0].content[0].source.type",
        ),
        (
            {"messages": [user({"type": "document", "source": {"type": "base64"}})]},
            "messages[0].content[0].source.type",
        ),
        ({"messages": [user({"type": "container_upload"})]}, "messages[0].content[0].type"),
        ({"messages": [user(result(content=[{"type": "tool_reference"}]))]}, "messages[0].content[0].content[0].type"),
        ({"messages": [assistant(CALL | {"input": "x"})]}, "messages[0].content[0].input"),
        ({"messages": [assistant(CALL | {"input": {"a": float("inf")}})]}, "messages[0].content[0].input"),
        ({"system": [{"type": "image"}]}, "system[0].type"),
        ({"max_tokens": None}, "max_tokens"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"temperature": 3}, "temperature"),
        ({"stop_sequences": [""]}, "stop_sequences[0]"),
        ({"stop_sequences": ["x"] * 17}, "stop_sequences"),
        ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, "tools[0].type"),
        ({"tools": [WEATHER, {"type": "bash_20250124", "name": "bash"}]}, "tools[1].type"),
        ({"tools": [WEATHER | {"name": "no spaces"}]}, "tools[0].name"),
        ({"tools": [{"name": "weather"}]}, "tools[0].input_schema"),
        ({"tools": [WEATHER], "tool_choice": {"type": "tool", "name": "other"}}, "tool_choice.name"),
        ({"tools": [WEATHER], "tool_choice": {"type": "tool"}}, "tool_choice.name"),
        ({"tool_choice": {"type": "sometimes"}}, "tool_choice.type"),
        ({"output_config": {"format": {"type": "json_schema"}}}, "output_config.format.schema"),
        ({"container": "c"}, "container"),
        ({"mcp_servers": [{"type": "url"}]}, "mcp_servers"),
    ],
)
def test_refusals(fields: dict[str, Any], param: str) -> None:
    """What cannot be honoured is refused, and the field at fault is named."""
    assert refused(**fields).param == param


def test_counting_is_about_the_same_prompt() -> None:
    """What is counted is what would be said to the model."""
    body = {"model": "gemma", "messages": [USER], "system": "Be brief.", "tools": [WEATHER], "max_tokens": 1}
    request = parse(MessagesRequest, body)
    counted = counting_ask(request, model="gemma", max_images=2)
    asked = messages_ask(request, model="gemma", max_images=2)
    assert (counted.prompt, counted.tools, counted.tool_choice) == (asked.prompt, asked.tools, asked.tool_choice)
