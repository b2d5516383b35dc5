"""The grammar of events, whatever pieces a reply is made of."""

from __future__ import annotations

import json
import re

from hypothesis import given, settings
from hypothesis import strategies as st

from gemmad.api.openai.responses import wire
from gemmad.api.openai.responses.items import FunctionCall
from gemmad.api.openai.responses.teller import ResponseVoice, Teller
from gemmad.api.openai.responses.tools import Called
from gemmad.api.pieces import CallDelta, Ending, Piece
from gemmad.errors import InvalidRequestError, RequestFailedError, UnavailableError
from gemmad.generation import Usage
from tests.api.responses.strict import checked_event, checked_events, checked_response, kinds

LETTERS = {
    "created": "C",
    "in_progress": "P",
    "output_item.added": "A",
    "content_part.added": "a",
    "output_text.delta": "t",
    "output_text.done": "T",
    "content_part.done": "d",
    "output_item.done": "D",
    "function_call_arguments.delta": "f",
    "function_call_arguments.done": "F",
    "completed": "Z",
    "incomplete": "z",
    "error": "e",
    "failed": "!",
}
ITEM = r"(Aat*TdD|Af*FD)"
GRAMMAR = re.compile(rf"CP({ITEM}+Z|{ITEM}*(Af*)?z|{ITEM}*(Aat*|Af*)?e!)")


def blank() -> wire.Response:
    return wire.Response(id="resp_1", created_at=1, status="queued", model="m", text=wire.TextConfig({"type": "text"}))


@st.composite
def replies(draw: st.DrawFn) -> list[Piece]:
    """Texts and calls in any order, cut into pieces anywhere, with the end that fits."""
    pieces: list[Piece] = []
    calls = 0
    for is_call in draw(st.lists(st.booleans(), max_size=4)):
        if not is_call:
            pieces += [Piece(0, text) for text in draw(st.lists(st.text(min_size=1, max_size=5), max_size=3))]
            continue
        arguments = json.dumps(draw(st.dictionaries(st.text(max_size=3), st.integers(), max_size=2)))
        cut = draw(st.integers(0, len(arguments)))
        head = CallDelta(calls, "", f"call_{calls}", draw(st.sampled_from(["look", "files__read"])))
        tail = [CallDelta(calls, part) for part in (arguments[:cut], arguments[cut:])]
        pieces += [Piece(0, calls=(head, tail[0])), Piece(0, calls=(tail[1],))]
        calls += 1
    finish: Ending = draw(st.sampled_from(["length", "tool_calls" if calls else "stop"]))
    if finish == "length" and pieces and draw(st.booleans()):
        pieces.pop()
    return [*pieces, Piece(0, finish=finish)]


@settings(max_examples=150, deadline=None)
@given(replies(), st.one_of(st.none(), st.integers(0, 8)))
def test_the_grammar_of_events(pieces: list[Piece], fails_at: int | None) -> None:
    """Any reply is told in OpenAI's order; its deltas add up to its items, and its items to the response."""
    settled: list[wire.Response] = []
    teller = Teller(blank(), names={"files__read": Called("read", "files")})
    voice = ResponseVoice(teller, settled=settled.append)
    raw = voice.begin() + b"".join(map(voice.say, pieces[:fails_at]))
    failed = fails_at is not None and fails_at < len(pieces)
    raw += voice.fail(RequestFailedError("gone", code="worker_lost")) if failed else voice.end(Usage(3, 2, 1))
    events = checked_events(raw.decode())
    assert GRAMMAR.fullmatch("".join(LETTERS[kind] for kind in kinds(events))), kinds(events)
    done = [event["item"] for event in events if event["type"] == "response.output_item.done"]
    final = events[-1]["response"]
    assert final["output"] == done
    assert len(settled) == (not failed)
    for index, event in ((event["output_index"], event) for event in events if event["type"].endswith(".added")):
        said = "".join(each["delta"] for each in events if "delta" in each and each["output_index"] == index)
        for item in (each["item"] for each in events if each["type"] == "response.output_item.done"):
            if item["id"] == (event.get("item") or {}).get("id"):
                assert said == (item["arguments"] if item["type"] == "function_call" else item["content"][0]["text"])


def test_half_a_call() -> None:
    """A call that the length cut off is not in the response, and nothing says that it was whole."""
    teller = Teller(blank(), names={})
    teller.begin()
    teller.hear(Piece(0, calls=(CallDelta(0, "{}", "call_a", "one"), CallDelta(1, '{"x": ', "call_b", "two"))))
    told = teller.hear(Piece(0, finish="length"))
    teller.end(Usage(1, 1))
    assert told == []
    assert [item.name for item in teller.response.output if isinstance(item, FunctionCall)] == ["one"]
    assert teller.response.status == "incomplete"


def test_a_namespace_is_told() -> None:
    """A function of a namespace is called by the names that the client has for both."""
    teller = Teller(blank(), names={"files__read": Called("read", "files")})
    teller.begin()
    (added,) = teller.hear(Piece(0, calls=(CallDelta(0, "", "call_a", "files__read"),)))
    item = checked_event(wire.encode(added).decode())["item"]
    assert (item["name"], item["namespace"], item["call_id"]) == ("read", "files", "call_a")


def test_why_it_failed() -> None:
    """The reasons are told in the words that OpenAI has for them."""
    codes = {}
    for error in (
        UnavailableError("busy", retry_after_seconds=1),
        InvalidRequestError("no", param="input"),
        RequestFailedError("gone", code="worker_lost"),
        ValueError("secret"),
    ):
        teller = Teller(blank(), names={})
        teller.fail(error)
        response = checked_response(wire.encode(teller.response))
        assert response.error is not None
        assert "secret" not in response.error.message
        codes[type(error)] = response.error.code
    assert list(codes.values()) == ["rate_limit_exceeded", "invalid_prompt", "server_error", "server_error"]
