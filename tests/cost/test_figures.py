from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gemmad.demo import CHECKPOINT
from gemmad.text.checkpoint import TextModel
from tests.cost.__main__ import words
from tests.cost.figures import Figures, Word, contents, lateness


@given(st.lists(st.text("abc ", min_size=1)), st.data())
def test_texts_however_they_are_cut(said: list[str], data: st.DataObject) -> None:
    """Every text is found once, wherever the bytes of the stream are cut; the empty one with the role is none."""
    stream = b'5d\r\ndata: {"delta":{"role":"assistant","content":""}}\n\n\r\n'
    for text in said:
        stream += b'5d\r\ndata: {"delta":{"content":"' + text.encode() + b'"},"finish_reason":null}\n\n\r\n'
    found: list[bytes] = []
    rest = b""
    while stream:
        size = data.draw(st.integers(1, len(stream)))
        texts, rest = contents(rest + stream[:size])
        stream = stream[size:]
        found += texts
    assert found == [text.encode() for text in said]


def test_when_a_word_was_said() -> None:
    """In the last step before its receipt that had this word."""
    stamps = {"cpu0": [10.0, 11.0, 12.0, 13.0, 14.0, 0.0, 0.0]}
    late = [
        lateness(at, Word("cpu0", index), stamps=stamps, counts={"cpu0": 5}, words=3)
        for at, index in ((12.5, 2), (12.5, 1), (14.25, 0), (14.25, 2))
    ]
    assert late == [0.5, 1.5, 1.25, 2.25]


def test_the_row() -> None:
    """CPU time is told for each token, lateness by rank."""
    figures = Figures(
        seconds=2.0,
        tokens=1000,
        reads=500,
        daemon_cpu_seconds=0.05,
        client_cpu_seconds=0.02,
        workers_cpu_seconds=0.001,
        late=tuple(number / 1000 for number in range(100)),
    )
    row = figures.row()
    assert row["tokens a second"] == "500"
    assert row["daemon's CPU"] == "50.0 µs a token (2% of a core)"
    assert row["added latency"] == "p50 50.00 ms, p99 99.00 ms"
    assert row["reads a token"] == "0.50"


def test_words() -> None:
    """No two workers share a word, each has enough for seconds, and each is one token."""
    text = TextModel.load(CHECKPOINT, chat_template=None)
    first, second = words(text, workers=2).values()
    assert len(first) == len(second) > 250
    assert not first.keys() & second.keys()
    for word, token_id in first.items():
        assert text.texts[token_id] == f" {word}"
