"""Grammars small enough to be checked by eye: a reply counts, each token one of a few that follow from the last."""

from __future__ import annotations

from collections.abc import Sequence as Many
from concurrent.futures import Future
from typing import Any

import numpy as np

STOP = 3
"""A stop id of the bundled checkpoint."""


class Counting:
    """So many tokens, the n-th of them one of 10·n + 10 … 10·n + 12; then a stop id."""

    def __init__(self, length: int, *, gives_up_at: int | None = None) -> None:
        self.length = length
        self.said: list[int] = []
        self.gives_up_at = gives_up_at

    @property
    def ended(self) -> bool:
        """It has counted to its end."""
        return len(self.said) >= self.length

    @property
    def error(self) -> str | None:
        """Said at the token where it gives up."""
        return "too deep" if len(self.said) == self.gives_up_at else None

    def allowed(self) -> list[int]:
        """What may follow."""
        return [STOP] if self.ended else [10 * len(self.said) + 10 + k for k in range(3)]

    def accept(self, token_id: int) -> bool:
        """Take one."""
        if token_id not in self.allowed():
            return False
        self.said.append(token_id)
        return True


class CountingGrammars:
    """Compiles `N`, at once; `later:N` when it is told to; `broken` never; `deep:N` gives up at its N-th token."""

    def __init__(self) -> None:
        self.later: list[tuple[int, Future[Any]]] = []
        self.filled = 0

    def warm(self) -> Future[None]:
        """There is nothing to read."""
        done: Future[None] = Future()
        done.set_result(None)
        return done

    def begin(self, source: str) -> Future[Any]:
        """A matcher of its own."""
        future: Future[Any] = Future()
        kind, _, number = source.rpartition(":")
        if kind == "later":
            self.later.append((int(number), future))
        elif source == "broken":
            future.set_exception(ValueError("no such rule"))
        else:
            future.set_result(Counting(99 if kind else int(number), gives_up_at=int(number) if kind else None))
        return future

    def compile_now(self) -> None:
        """What was to be compiled later is."""
        for length, future in self.later:
            future.set_result(Counting(length))
        self.later.clear()

    def fill_batch(self, rows: Many[tuple[Counting, int]], bitmask: np.ndarray[Any, np.dtype[np.int32]]) -> None:
        """A bit for each token that may follow."""
        for matcher, row in rows:
            self.filled += 1
            words = np.zeros(bitmask.shape[1], np.uint32)
            for token in matcher.allowed():
                words[token // 32] |= np.uint32(1 << token % 32)
            bitmask[row] = words.view(np.int32)


def counts(reply: Many[int], length: int) -> bool:
    """Whether a reply is what `Counting` allows, its end included."""
    matcher = Counting(length)
    return all(matcher.accept(token) for token in reply)
