"""Sequences that are held to a grammar: until it is compiled they wait here, then a mask says what they may say next.

A mask needs the reply's last token on the host, so it is made while the device computes the step that it is for:

    device   [ body t ][ head t ][ body t+1            ][ head t+1 ]
    host                        [ t's tokens, masks ]───▲
"""

from __future__ import annotations

import concurrent.futures
import time
from collections.abc import Callable, Mapping
from collections.abc import Sequence as Many
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

import numpy as np

from gemmad.engine.sequence import Grammars, Hold, Sequence

COMPILE_SECONDS = 15.0
"""The daemon has compiled the same already, within limits of its own."""
_BITS = 32


Masks = np.ndarray[Any, np.dtype[np.int32]]


def catch_up(sequence: Sequence, drawn: int | None = None) -> bool:
    """Let the matcher take what was said since, and the token that was drawn and is not known yet. False: the reply
    has ended with it, or cannot go on, and what may come next does not matter."""
    hold = sequence.hold
    assert hold is not None
    matcher = hold.matcher
    said = sequence.tokens[sequence.prompt_tokens + hold.accepted :]
    for token in said if drawn is None else [*said, drawn]:
        if hold.problem is not None or token in sequence.sampling.stop_token_ids:
            return False
        # Behind its end a matcher allows stop ids for ever, for a request that does not stop at them.
        if not (matcher.ended or matcher.accept(token)):
            hold.problem = "the reply left its grammar"
        hold.problem = matcher.error or hold.problem
        hold.accepted += 1
    return hold.problem is None


def fill_masks(held: Many[Sequence], drawn: Mapping[Sequence, int], masks: Masks) -> None:
    """Write into row i of `masks` what the i-th sequence may say next, once it has caught up with what was `drawn`; all
    must be held by one `Grammars`. An ended reply gets some mask."""
    going = []
    for row, sequence in enumerate(held):
        assert sequence.hold is not None
        if catch_up(sequence, drawn.get(sequence)):
            going.append((sequence, sequence.hold, row))
        else:
            masks[row] = -1
    if going:
        going[0][1].grammars.fill_batch([(hold.matcher, row) for _, hold, row in going], masks)
    for sequence, hold, row in going:
        if sequence.may_not_end and not hold.matcher.ended:
            _ban(sequence.sampling.stop_token_ids, masks[row])


def _ban(token_ids: tuple[int, ...], mask: Masks) -> None:
    """Forbid these, unless nothing else is allowed."""
    before = mask.copy()
    for token in token_ids:
        mask.view(np.uint32)[token // _BITS] &= np.uint32(~(1 << token % _BITS) & 0xFFFFFFFF)
    if not mask.any():
        mask[:] = before


@dataclass(frozen=True)
class _Compiling:
    sequence: Sequence
    matcher: Future[Any]
    until: float


class Antechamber:
    """Sequences whose grammars are being compiled; nobody else waits for them."""

    def __init__(
        self,
        grammars: Grammars,
        *,
        seconds: float = COMPILE_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._grammars = grammars
        self._seconds = seconds
        self._clock = clock
        self._waiting: list[_Compiling] = []

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, sequence: Sequence) -> None:
        """Begin to compile."""
        source = sequence.sampling.grammar
        assert source is not None
        self._waiting.append(_Compiling(sequence, self._grammars.begin(source), self._clock() + self._seconds))

    def remove(self, sequence: Sequence) -> bool:
        """Forget a sequence; whether it was here."""
        before = len(self._waiting)
        self._waiting = [one for one in self._waiting if one.sequence is not sequence]
        return len(self._waiting) < before

    def leave(self) -> tuple[list[Sequence], list[tuple[Sequence, str]]]:
        """Those that can go on, in the order in which they came and caught up with what they have said before; and
        those that never will, each with the reason."""
        ready: list[Sequence] = []
        refused: list[tuple[Sequence, str]] = []
        now, stay = self._clock(), []
        for one in self._waiting:
            if one.matcher.done():
                reason = _hold(one, self._grammars)
                refused += [(one.sequence, reason)] if reason else []
                ready += [] if reason else [one.sequence]
            elif now >= one.until:
                refused.append((one.sequence, f"the grammar was not compiled within {self._seconds:g} seconds"))
            else:
                stay.append(one)
        self._waiting = stay
        return ready, refused

    def wait(self, seconds: float) -> None:
        """Until one is compiled, but no longer than this."""
        concurrent.futures.wait(
            [one.matcher for one in self._waiting], timeout=seconds, return_when=concurrent.futures.FIRST_COMPLETED
        )


def _hold(one: _Compiling, grammars: Grammars) -> str | None:
    """Put the matcher into place; returns why that cannot be."""
    error = one.matcher.exception()
    if error is not None:
        return f"the grammar cannot be compiled: {error}"
    one.sequence.hold = Hold(one.matcher.result(), grammars)
    catch_up(one.sequence)
    return one.sequence.hold.problem
