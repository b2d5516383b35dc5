"""The text of one reply."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from gemmad.demo import CHECKPOINT
from gemmad.text.checkpoint import TextModel
from gemmad.text.reply import ReplyText

MODEL = TextModel.load(CHECKPOINT)

token_ids = st.lists(st.integers(min_value=0, max_value=MODEL.vocab_size - 1), max_size=60)
stop_strings = st.lists(st.sampled_from(["e", " a", "th", "\n", "er ", "🎉", "the "]), max_size=4)


def ids_of(text: str) -> list[int]:
    (ids,) = MODEL.encode_plain([text])
    return ids


@given(ids=token_ids, stop=stop_strings, cuts=st.lists(st.integers(min_value=0, max_value=60)))
def test_grouping_makes_no_difference(ids: list[int], stop: list[str], cuts: list[int]) -> None:
    """Text, count and outcome are a function of the tokens, however these were grouped."""
    whole = ReplyText(MODEL, stop=stop)
    text = whole.feed(ids) + whole.finish()
    pieces = ReplyText(MODEL, stop=stop)
    bounds = [0, *sorted(cuts), len(ids)]
    shown = [pieces.feed(ids[start:end]) for start, end in pairwise(bounds)]
    assert "".join(shown) + pieces.finish() == text
    assert (pieces.tokens, pieces.stopped) == (whole.tokens, whole.stopped)


@given(ids=token_ids)
def test_without_stops_is_decode(ids: list[int]) -> None:
    """Without stop strings the text is the tokenizer's."""
    reply = ReplyText(MODEL)
    assert reply.feed(ids) + reply.finish() == MODEL.tokenizer.decode(ids, skip_special_tokens=True)
    assert reply.tokens == len(ids)


def test_counts_up_to_the_stop() -> None:
    """A stop string met in the middle of a batch ends text and count there."""
    before, stop, after = ids_of("Hello there"), ids_of("\nUser:"), ids_of(" nothing of this")
    reply = ReplyText(MODEL, stop=["\nUser:"])
    assert reply.feed([*before, *stop, *after]) == "Hello there"
    assert reply.stopped
    assert reply.tokens == len(before) + len(stop)
    assert reply.feed(after) == ""
    assert reply.finish() == ""
    assert reply.tokens == len(before) + len(stop)


def test_stop_ids_say_nothing() -> None:
    """A stop id is counted and not shown, be it a special token or a word."""
    (word, *_) = ids_of("the")
    reply = ReplyText(MODEL, stop_token_ids=[word])
    assert reply.feed([word, MODEL.stop_token_ids[0]]) == ""
    assert reply.tokens == 2
    assert not reply.stopped


def test_finish_gives_what_was_held() -> None:
    """A reply that ends within a stop string ends with that beginning of it."""
    reply = ReplyText(MODEL, stop=["###"])
    assert reply.feed(ids_of("done ##")) == "done "
    assert reply.finish() == "##"
    assert not reply.stopped


def test_finish_can_meet_a_stop() -> None:
    """A stop string that only the last held bytes complete still counts."""
    emoji = [MODEL.tokenizer.get_vocab()[f"<0x{byte:02X}>"] for byte in "🎉".encode()]
    reply = ReplyText(MODEL, stop=["🎉"])
    assert reply.feed([*ids_of("hurray"), *emoji]) == "hurray"
    assert reply.finish() == ""
    assert reply.stopped
