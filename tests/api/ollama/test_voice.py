"""Whatever a reply is made of, its lines are what Ollama's clients take."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from ollama import ChatResponse

from gemmad.api.ollama import wire
from gemmad.api.ollama.voice import LineVoice, Manner
from gemmad.api.pieces import CallDelta, LikelyToken, Piece, SaidToken
from gemmad.errors import RequestFailedError
from gemmad.generation import Usage

USAGE = Usage(prompt_tokens=20, completion_tokens=7)

words = st.text(min_size=1, max_size=8)
arguments = st.dictionaries(st.text(max_size=3), st.integers() | st.text(max_size=5), max_size=3).map(json.dumps)


def voice() -> LineVoice:
    return LineVoice(
        Manner("gemma", chat=True, clock=lambda: 0.5),
        final=lambda finish, usage: wire.Final(wire.done_reason(finish), eval_count=usage.completion_tokens),
    )


def lines(stream: bytes) -> list[dict[str, Any]]:
    """Each is a line of JSON that the package's types allow."""
    assert stream.endswith(b"\n")
    found = [json.loads(line) for line in stream.decode().split("\n")[:-1]]
    for line in found:
        ChatResponse.model_validate(line)
        assert line["created_at"] == "1970-01-01T00:00:00.500000Z"
    return found


@given(data=st.data(), text=st.lists(words, max_size=4), calls=st.lists(arguments, max_size=3))
def test_any_reply(data: st.DataObject, text: list[str], calls: list[str]) -> None:
    """Words come as they are said, calls whole and in order, and `done` once, at the end."""
    speaker = voice()
    stream = speaker.begin()
    for each in text:
        stream += speaker.say(Piece(0, each))
    for index, call in enumerate(calls):
        cut = data.draw(st.integers(0, len(call)))
        stream += speaker.say(Piece(0, calls=(CallDelta(index, call[:cut], id=f"call_{index}", name="f"),)))
        stream += speaker.ping() if data.draw(st.booleans()) else b""
        stream += speaker.say(Piece(0, calls=(CallDelta(index, call[cut:]),)))
    stream += speaker.say(Piece(0, finish="tool_calls" if calls else "stop")) + speaker.end(USAGE)
    *body, last = lines(stream)
    assert "".join(line["message"]["content"] for line in body) == "".join(text)
    told = [call for line in body for call in line["message"].get("tool_calls", [])]
    assert [call["function"]["arguments"] for call in told] == [json.loads(call) for call in calls]
    assert [(call["id"], call["function"]["index"]) for call in told] == [
        (f"call_{index}", index) for index in range(len(calls))
    ]
    assert not any(line["done"] for line in body)
    assert (last["done"], last["done_reason"], last["eval_count"]) == (True, "stop", 7)


def test_a_call_that_is_cut_off() -> None:
    """A call that the limit cuts off is never told."""
    speaker = voice()
    stream = speaker.say(Piece(0, calls=(CallDelta(0, '{"a": "b', id="call_0", name="f"),)))
    stream += speaker.say(Piece(0, finish="length")) + speaker.end(USAGE)
    [last] = lines(stream)
    assert last["done_reason"] == "length"
    assert "tool_calls" not in last["message"]


def test_log_probabilities() -> None:
    """Each token has its text, its bytes and the likeliest at its place."""
    token = SaidToken("ü", b"\xc3\xbc", -0.5, (LikelyToken("a", b"a", -0.25),))
    [line] = lines(voice().say(Piece(0, "ü", logprobs=(token,))))
    assert line["logprobs"] == [
        {
            "token": "ü",
            "logprob": -0.5,
            "bytes": [0xC3, 0xBC],
            "top_logprobs": [{"token": "a", "logprob": -0.25, "bytes": [97]}],
        }
    ]


def test_a_failure() -> None:
    """A stream that fails ends with a line that has the error alone."""
    line = voice().fail(RequestFailedError("It broke.", code="worker_lost"))
    assert line == b'{"error":"It broke."}\n'
