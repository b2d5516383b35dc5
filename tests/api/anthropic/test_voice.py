"""Whatever a reply is made of, its events come in the one order that Anthropic's clients take."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from gemmad.api.anthropic.voice import MessageVoice
from gemmad.api.pieces import CallDelta, Ending, Piece
from gemmad.errors import RequestFailedError
from gemmad.generation import Usage
from tests.api.anthropic.events import events, put_together

USAGE = Usage(prompt_tokens=20, completion_tokens=7, cached_tokens=5)

words = st.text(min_size=1, max_size=8)
arguments = st.dictionaries(st.text(max_size=3), st.integers() | st.text(max_size=5), max_size=3).map(json.dumps)
said = st.lists(words | st.tuples(words, arguments), max_size=6)
"""Text, and calls with their arguments."""


def voice(max_tokens: int = 100) -> MessageVoice:
    return MessageVoice("msg_1", model="gemma", max_tokens=max_tokens, request_id="req_1", usage=lambda: USAGE)


@st.composite
def pieces(draw: st.DrawFn, what: list[Any], *, finish: Ending) -> list[Piece]:
    """One reply, cut into pieces anywhere."""
    atoms: list[Piece] = []
    calls = 0
    for each in what:
        if isinstance(each, str):
            atoms += [Piece(0, character) for character in each]
            continue
        name, text = each
        atoms.append(Piece(0, calls=(CallDelta(calls, "", id=f"call_{calls}", name=name),)))
        atoms += [Piece(0, calls=(CallDelta(calls, character),)) for character in text]
        calls += 1
    joined: list[Piece] = []
    for atom in atoms:
        last = joined[-1] if joined else None
        if last is not None and draw(st.booleans()) and not (last.calls and atom.text):
            joined[-1] = Piece(0, last.text + atom.text, calls=(*last.calls, *atom.calls))
        else:
            joined.append(atom)
    return [*joined, Piece(0, finish=finish)]


@given(data=st.data(), what=said, finish=st.sampled_from(["stop", "length", "tool_calls"]))
def test_any_reply(data: st.DataObject, what: list[Any], finish: Ending) -> None:
    """Text and calls come out as they went in, one block after the other, with pings anywhere."""
    speaker, stream, begun = voice(), b"", False
    for piece in data.draw(pieces(what, finish=finish)):
        if data.draw(st.booleans()):
            stream += speaker.ping()
        if not begun:
            begun, stream = True, stream + speaker.begin()
        stream += speaker.say(piece)
    stream += speaker.end(USAGE)
    blocks, delta = put_together(events(stream))
    heard: list[Any] = [
        block["text"] if block["type"] == "text" else (block["name"], block["json"]) for block in blocks
    ]
    expected: list[Any] = []
    for each in what:
        if isinstance(each, str) and expected and isinstance(expected[-1], str):
            expected[-1] += each
        else:
            expected.append(each)
    assert heard == expected
    assert [block["id"] for block in blocks if block["type"] == "tool_use"] == [
        f"call_{index}" for index in range(sum(isinstance(each, tuple) for each in what))
    ]
    reasons = {"stop": "end_turn", "length": "model_context_window_exceeded", "tool_calls": "tool_use"}
    assert delta["delta"] == {"stop_reason": reasons[finish], "stop_sequence": None}


def test_the_counts() -> None:
    """The head has what is known of the prompt, the delta all; what was in the cache is not counted twice."""
    speaker = voice()
    found = events(speaker.begin() + speaker.say(Piece(0, "Hi", finish="stop")) + speaker.end(USAGE))
    assert found[0]["message"] == {
        "type": "message",
        "id": "msg_1",
        "role": "assistant",
        "model": "gemma",
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": found[-2]["usage"],
    }
    assert found[-2]["usage"] == {
        "input_tokens": 15,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 5,
        "output_tokens": 7,
    }


def test_the_reasons() -> None:
    """A stop string is told, and whether it was the request or the context that had no room for more."""
    stopped = voice()
    stopped.say(Piece(0, finish="stop", stop="END"))
    assert events(stopped.end(USAGE))[-2]["delta"] == {"stop_reason": "stop_sequence", "stop_sequence": "END"}
    cut = voice(max_tokens=7)
    cut.say(Piece(0, finish="length"))
    assert events(cut.end(USAGE))[-2]["delta"]["stop_reason"] == "max_tokens"


def test_a_failure() -> None:
    """A stream that fails ends with an error event that names the request, and never looks finished."""
    speaker = voice()
    stream = (
        speaker.begin()
        + speaker.say(Piece(0, "Hel"))
        + speaker.fail(RequestFailedError("It broke.", code="worker_lost"))
    )
    found = events(stream)
    assert found[-1] == {
        "type": "error",
        "error": {"type": "api_error", "message": "It broke.", "details": {"error_code": "worker_lost"}},
        "request_id": "req_1",
    }
    assert "message_stop" not in {event["type"] for event in found}
