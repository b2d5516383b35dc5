"""From tokens to pieces, for one choice."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gemmad.api.pieces import Piece, Said
from gemmad.api.speaker import Speaker, Trail
from gemmad.demo import CHECKPOINT
from gemmad.dispatch.ticket import Progress
from gemmad.generation import FinishReason, TokenLogprobs
from gemmad.text.calls import CallReader
from gemmad.text.checkpoint import TextModel
from gemmad.text.reply import ReplyText

TEXT = TextModel.load(CHECKPOINT)
END = TEXT.stop_token_ids[-1]
CALL = '{"name": "look", "parameters": {"at": "the sky"}}'

texts = st.lists(st.sampled_from(["a", " ", "the ", "\n", "漢", "🎈", "{", CALL]), max_size=30).map("".join)
stops = st.lists(st.sampled_from(["a", "th", " \n", "🎈", "sky"]), max_size=3)
cuts = st.lists(st.integers(0, 200), max_size=12)


def ids_of(text: str) -> tuple[int, ...]:
    return tuple(TEXT.encode_plain([text])[0])


def speaker(*, stop: list[str] | None = None, traced: bool = False, calls: bool = False) -> Speaker:
    return Speaker(
        0,
        ReplyText(TEXT, stop=stop or [], stop_token_ids=TEXT.stop_token_ids),
        trail=Trail(TEXT.spelling) if traced else None,
        calls=CallReader(["look"], key="k") if calls else None,
    )


def play(one: Speaker, ids: tuple[int, ...], bounds: list[int], finish: FinishReason) -> tuple[list[Piece], Said]:
    """Its pieces when the ids come in these groups."""
    pieces: list[Piece] = []
    edges = [0, *sorted(min(cut, len(ids)) for cut in bounds), len(ids)]
    for number, (start, end) in enumerate(pairwise(edges), start=2):
        group, over = ids[start:end], number == len(edges)
        if not group and not over:
            continue
        logprobs = tuple(TokenLogprobs(-float(at)) for at in range(start, end))
        piece = one.take(Progress(group, finish if over else None, 0, logprobs))
        if piece is not None:
            pieces.append(piece)
            if piece.finish is not None:
                break
    return pieces, one.whole(pieces)


@given(text=texts, stop=stops, bounds=cuts, calls=st.booleans())
def test_tracing_changes_nothing_else(text: str, stop: list[str], bounds: list[int], calls: bool) -> None:
    """Text, calls and end are the same with log-probabilities and without, however the tokens are grouped."""
    ids = (*ids_of(text), END)
    _, plain = play(speaker(stop=stop, calls=calls), ids, [], FinishReason.STOP)
    _, traced = play(speaker(stop=stop, calls=calls, traced=True), ids, bounds, FinishReason.STOP)
    assert (traced.text, traced.calls, traced.finish, traced.stop) == (
        plain.text,
        plain.calls,
        plain.finish,
        plain.stop,
    )


@given(text=texts, stop=stops, bounds=cuts)
def test_told_tokens_make_the_text(text: str, stop: list[str], bounds: list[int]) -> None:
    """At any moment the tokens that were told begin with the text that was shown, and go on for less than one of them;
    without a stop string they are the text, and all but the one that ends the turn."""
    ids = (*ids_of(text), END)
    pieces, said = play(speaker(stop=stop, traced=True), ids, bounds, FinishReason.STOP)
    shown, told = b"", b""
    for piece in pieces:
        shown += piece.text.encode()
        told += b"".join(token.bytes for token in piece.logprobs)
        assert told.startswith(shown)
        assert not piece.logprobs or len(told) - len(shown) < len(piece.logprobs[-1].bytes) or not piece.text
    assert said.logprobs is not None
    assert [token.logprob for token in said.logprobs] == [-float(at) for at in range(len(said.logprobs))]
    if said.stop is None:
        assert told == shown == text.encode()
        assert len(said.logprobs) == len(ids) - 1


def test_a_call_ends_a_reply() -> None:
    """A reply with a whole call ends for its sake; one that is cut off inside a call ends for its length, without."""
    _, whole = play(speaker(calls=True), (*ids_of(CALL), END), [3], FinishReason.STOP)
    assert (whole.finish, whole.text) == ("tool_calls", "")
    assert [(call.name, call.arguments) for call in whole.calls] == [("look", '{"at": "the sky"}')]
    pieces, cut = play(speaker(calls=True), ids_of(CALL[:-7]), [], FinishReason.LENGTH)
    assert (cut.finish, cut.calls) == ("length", ())
    assert "".join(delta.arguments for piece in pieces for delta in piece.calls) == '{"at": "the'
    _, two = play(speaker(calls=True), ids_of(f"{CALL}\n{CALL[:-7]}"), [], FinishReason.LENGTH)
    assert (two.finish, len(two.calls)) == ("length", 1)


def test_text_before_a_call() -> None:
    """What is said before a call is text, and the deltas of a call say its name and id once."""
    pieces, said = play(
        speaker(calls=True), (*ids_of(f"Let me look.\n{CALL}"), END), list(range(60)), FinishReason.STOP
    )
    assert said.text.strip() == "Let me look."
    first, *others = [delta for piece in pieces for delta in piece.calls]
    assert (first.index, first.name, first.arguments) == (0, "look", "")
    assert all(delta.id is None and delta.name is None for delta in others)
    assert "".join(delta.arguments for delta in others) == '{"at": "the sky"}'
    assert said.calls[0].id == first.id


@pytest.mark.parametrize("traced", [False, True])
def test_the_stop_string_that_was_met(traced: bool) -> None:
    """A stop string ends a reply as if the model had, and the end says which it was."""
    pieces, said = play(speaker(stop=["sky", "moon"], traced=traced), ids_of("the sky is"), [], FinishReason.LENGTH)
    assert (said.text, said.finish, said.stop) == ("the ", "stop", "sky")
    assert pieces[-1].stop == "sky"
