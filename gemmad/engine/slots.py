"""Who has which row of a table that has one for each sequence at a time."""

from __future__ import annotations

import weakref
from collections.abc import Sequence as Many

from gemmad.engine.sequence import Sequence


class Slots:
    """Rows 0 … count - 1. A row stays with its sequence until that is gone, or until somebody else who speaks now needs
    it: one that was set back and comes again soon so finds its row as it was."""

    def __init__(self, count: int) -> None:
        self._owners: list[weakref.ref[Sequence] | None] = [None] * count
        self._slots: weakref.WeakKeyDictionary[Sequence, int] = weakref.WeakKeyDictionary()

    def slot_of(self, sequence: Sequence) -> int | None:
        """Its row, if it has one."""
        return self._slots.get(sequence)

    def place(self, sequences: Many[Sequence]) -> list[tuple[Sequence, int]]:
        """Give a row to each of these that has none; returns those and their rows, whose content is another's."""
        newcomers = [sequence for sequence in sequences if sequence not in self._slots]
        if not newcomers:
            return []
        kept = {self._slots[sequence] for sequence in sequences if sequence in self._slots}
        free = sorted(set(range(len(self._owners))) - kept, key=self._is_owned)
        assert len(newcomers) <= len(free), "more sequences speak than there are rows"
        placed = list(zip(newcomers, free, strict=False))
        for sequence, slot in placed:
            owner = self._owner(slot)
            if owner is not None:
                del self._slots[owner]
            self._owners[slot] = weakref.ref(sequence)
            self._slots[sequence] = slot
        return placed

    def _is_owned(self, slot: int) -> bool:
        return self._owner(slot) is not None

    def _owner(self, slot: int) -> Sequence | None:
        reference = self._owners[slot]
        return None if reference is None else reference()
