"""Rows of a table, and whose they are."""

from __future__ import annotations

import random

from gemmad.engine.sequence import Sequence
from gemmad.engine.slots import Slots
from tests.unit.engine.bench import sequence


def test_a_row_stays_with_its_sequence() -> None:
    """Whoever has one is not placed again, and no two share one."""
    slots = Slots(3)
    first, second = sequence(1, 4), sequence(2, 4)
    assert slots.place([first]) == [(first, slots.slot_of(first))]
    assert slots.place([first]) == []
    assert [one for one, _ in slots.place([second, first])] == [second]
    assert slots.slot_of(first) != slots.slot_of(second)


def test_rows_of_the_gone_are_taken_first() -> None:
    """A row that is nobody's is taken before one of somebody who only does not speak."""
    slots, silent = Slots(2), sequence(1, 4)
    slots.place([silent])
    gone = sequence(2, 4)
    slots.place([gone])
    del gone
    newcomer = sequence(3, 4)
    slots.place([newcomer])
    assert slots.slot_of(silent) is not None
    last = sequence(4, 4)
    slots.place([newcomer, last])
    assert slots.slot_of(silent) is None


def test_any_coming_and_going() -> None:
    """However many come and go, those that speak together have a row each, which is told as new when it is."""
    chance, slots, content = random.Random(1), Slots(5), dict[int, Sequence]()
    alive = [sequence(number, 4) for number in range(9)]
    for number in range(400):
        if chance.random() < 0.2:
            alive[chance.randrange(len(alive))] = sequence(100 + number, 4)
        speaking = chance.sample(alive, chance.randint(0, 5))
        content |= {slot: one for one, slot in slots.place(speaking)}
        rows = [slots.slot_of(one) for one in speaking]
        assert len(set(rows)) == len(speaking)
        assert [content[row] for row in rows if row is not None] == speaking
