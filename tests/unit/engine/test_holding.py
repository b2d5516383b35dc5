"""Waiting for a grammar, on a clock that the test turns."""

from __future__ import annotations

from gemmad.engine.holding import Antechamber
from gemmad.engine.sequence import Sequence, new_sequence
from gemmad.generation import Prompt, SamplingParams
from tests.engine.grammars import CountingGrammars


def held(number: int, grammar: str) -> Sequence:
    """A request with a grammar."""
    return new_sequence(number, Prompt((1, 2)), SamplingParams(max_tokens=4, grammar=grammar))


def test_whoever_is_ready_leaves_in_order() -> None:
    """Those whose grammars are compiled go on, the others stay."""
    room = Antechamber(CountingGrammars())
    first, late, second = held(1, "2"), held(2, "later:3"), held(3, "4")
    for sequence in (first, late, second):
        room.add(sequence)
    assert room.leave() == ([first, second], [])
    assert len(room) == 1
    assert room.leave() == ([], [])
    assert room.remove(late)
    assert not room.remove(late)
    assert not room


def test_a_deadline() -> None:
    """A grammar that takes too long is refused, and nobody waits for it any more."""
    now = [0.0]
    room = Antechamber(CountingGrammars(), seconds=3, clock=lambda: now[0])
    slow = held(1, "later:3")
    room.add(slow)
    now[0] = 2.9
    assert room.leave() == ([], [])
    now[0] = 3.0
    assert room.leave() == ([], [(slow, "the grammar was not compiled within 3 seconds")])
    assert len(room) == 0
