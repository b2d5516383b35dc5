"""Stop strings."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gemmad.errors import InvalidRequestError
from gemmad.text.stops import LONGEST_STOP, MAX_STOPS, StopMatcher


def cut_naively(text: str, stops: list[str]) -> tuple[str, bool]:
    """Letter by letter: as soon as the text ends with a stop string, the longest such is taken off."""
    for end in range(len(text) + 1):
        met = [stop for stop in stops if stop and text[:end].endswith(stop)]
        if met:
            return text[: end - max(map(len, met))], True
    return text, False


few_letters = st.text(alphabet="ab\n", max_size=8)


@given(
    pieces=st.lists(few_letters, max_size=12),
    stops=st.lists(st.text(alphabet="ab\n", max_size=5), max_size=6),
)
def test_same_as_naive_search(pieces: list[str], stops: list[str]) -> None:
    """Whatever the stop strings and however the text is cut, what comes out is what a naive search leaves."""
    matcher = StopMatcher(stops)
    shown = "".join(matcher.feed(piece) for piece in pieces)
    finished = matcher.finish()
    expected, stopped = cut_naively("".join(pieces), stops)
    assert shown + finished == expected
    assert matcher.stopped == stopped


@given(pieces=st.lists(few_letters, max_size=12), stops=st.lists(few_letters, max_size=6))
def test_holds_no_more_than_needed(pieces: list[str], stops: list[str]) -> None:
    """What is held back is the longest end of the text that is the beginning of a stop string."""
    matcher = StopMatcher(stops)
    text = shown = ""
    for piece in pieces:
        text += piece
        shown += matcher.feed(piece)
        if matcher.stopped:
            return
        beginnings = {stop[:size] for stop in stops for size in range(len(stop))}
        held = max((size for size in range(len(text) + 1) if text[len(text) - size :] in beginnings), default=0)
        assert shown == text[: len(text) - held]


def test_without_stops() -> None:
    """Without stop strings all text comes out at once."""
    matcher = StopMatcher()
    assert matcher.feed("abc") == "abc"
    assert matcher.finish() == ""
    assert not matcher.stopped


def test_straddles_pieces() -> None:
    """A stop string spread over three pieces is found, and what stood before it in the first one is shown."""
    matcher = StopMatcher(["STOP"])
    assert [matcher.feed(piece) for piece in ("one ST", "O", "P two", "three")] == ["one ", "", "", ""]
    assert matcher.stopped
    assert matcher.finish() == ""


def test_false_alarm() -> None:
    """Text that only began like a stop string comes out when it goes on otherwise."""
    matcher = StopMatcher(["STOP"])
    assert [matcher.feed(piece) for piece in ("ST", "ATE")] == ["", "STATE"]


def test_end_inside() -> None:
    """Text that ends within a stop string comes out at the finish."""
    matcher = StopMatcher(["STOP"])
    assert matcher.feed("one STO") == "one "
    assert matcher.finish() == "STO"
    assert not matcher.stopped


def test_first_complete_wins() -> None:
    """The stop string that is complete first counts, even where a longer one had begun before it."""
    matcher = StopMatcher(["abcd", "bc"])
    assert matcher.feed("xabcd") == "xa"


def test_longest_at_same_end() -> None:
    """Of stop strings that end with the same character the longest is cut off."""
    matcher = StopMatcher(["\n", "\n\n", "end\n"])
    assert matcher.feed("the end\n") == "the "


def test_empty_stop_strings() -> None:
    """Empty stop strings mean nothing."""
    matcher = StopMatcher(["", ""])
    assert matcher.feed("a") == "a"


@pytest.mark.parametrize("stops", [["x"] * (MAX_STOPS + 1), ["y" * (LONGEST_STOP + 1)]])
def test_refuses_too_much(stops: list[str]) -> None:
    """Too many or too long stop strings are the request's fault."""
    with pytest.raises(InvalidRequestError) as caught:
        StopMatcher(stops)
    assert caught.value.param == "stop"


def test_hostile_stops_stay_cheap() -> None:
    """The largest stop strings, chosen to match almost everywhere, cost little for each character."""
    stops = ["a" * (LONGEST_STOP - 1) + chr(ord("b") + number) for number in range(MAX_STOPS)]
    began = time.process_time()
    matcher = StopMatcher(stops)
    for _ in range(5000):
        matcher.feed("aaaa")
    assert time.process_time() - began < 5
    assert not matcher.stopped
