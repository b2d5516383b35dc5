"""What the next step computes. Continuous batching (Orca, OSDI 2022) with chunked prefill (Sarathi, OSDI 2024).

Sequences that speak come first, one token each, so that no long prompt makes them stutter; what is left of the step's
budget goes to prompts, oldest first, in chunks. A chunk never cuts an image, because its tokens see each other both
ways. When pages run out, the youngest sequence gives all of its pages back and waits, at the head, to begin again.

    waiting ──admit──▶ running ──finish──▶ gone
       ▲                  │
       └────preempt───────┘

Pages are the only thing that changes hands here; nothing is computed. Positions [computed, computed + count) of a chunk
need a full page each P tokens, and sliding pages for [computed - window + 1, computed + count).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

from gemmad.engine.pages import PagePool
from gemmad.engine.sequence import Sequence


@dataclass(frozen=True)
class Limits:
    """What bounds a step."""

    max_sequences: int
    step_tokens: int
    """Budget of a step. One image may go over it when nothing smaller would make progress."""
    page_tokens: int
    window: int
    full_layers: bool = True
    """Whether the network has layers of this kind at all; without, they need no pages."""
    sliding_layers: bool = True

    def full_pages_for(self, length: int) -> int:
        """Full pages that a sequence of so many tokens holds."""
        return -(-length // self.page_tokens) if self.full_layers else 0

    def most_sliding_pages(self, length: int, longest_chunk: int) -> int:
        """Sliding pages that a sequence of so many tokens holds at its worst moment."""
        if not self.sliding_layers:
            return 0
        reach = min(length, self.window - 1 + longest_chunk)
        return min(-(-reach // self.page_tokens) + 1, -(-length // self.page_tokens))


@dataclass(frozen=True)
class Chunk:
    """Tokens `[start, start + count)` of a sequence, computed in one step."""

    sequence: Sequence
    start: int
    count: int
    speaks: bool
    """True when the chunk reaches the sequence's last token, so that the next one is drawn."""

    @property
    def end(self) -> int:
        """One past the chunk's last token."""
        return self.start + self.count


class Scheduler:
    """Owns the two lists and the page pools' books. One writer: the engine."""

    def __init__(self, limits: Limits, full: PagePool, sliding: PagePool) -> None:
        self._limits = limits
        self._full = full
        self._sliding = sliding
        self.waiting: deque[Sequence] = deque()
        self.running: list[Sequence] = []
        self.preemptions = 0

    def add(self, sequence: Sequence) -> None:
        """Queue a sequence behind those that wait."""
        self.waiting.append(sequence)

    def remove(self, sequence: Sequence) -> None:
        """Forget a sequence and free its pages at once."""
        if sequence in self.running:
            self.running.remove(sequence)
        else:
            self.waiting.remove(sequence)
        self._release(sequence)

    def schedule(self) -> list[Chunk]:
        """The next step's chunks, pages in hand. Empty only when there is nothing to do, or nothing but to hear what
        the steps under way have drawn."""
        self._make_room_for_speakers()
        chunks = [_chunk(s, 1) for s in self.running if _speaks_next(s)]
        budget = self._limits.step_tokens - len(chunks)
        for sequence in [s for s in self.running if s.computed < s.length - 1]:
            budget -= self._extend(sequence, budget, chunks)
        while self.waiting and len(self.running) < self._limits.max_sequences and budget > 0:
            sequence = self.waiting[0]
            taken = self._admit(sequence, budget, chunks)
            if not taken:
                break
            budget -= taken
        return chunks

    def advance(self, chunks: Iterable[Chunk]) -> None:
        """The chunks are under way: what they compute counts, and sliding pages behind the window are free.

        A page freed now may be written by the next step; steps follow one another on the device, so none is early.
        """
        for chunk in chunks:
            sequence = chunk.sequence
            sequence.pending += chunk.speaks
            sequence.computed = chunk.end
            first = max(0, sequence.computed - self._limits.window + 1) // self._limits.page_tokens
            gone = [index for index in sequence.sliding_pages if index < first]
            self._sliding.give_back(sequence.sliding_pages.pop(index) for index in gone)

    @property
    def pages_used(self) -> tuple[int, int]:
        """Full and sliding pages that sequences hold."""
        return self._full.used, self._sliding.used

    def check(self) -> None:
        """Both pools balance, and what is owned is owned by a running sequence."""
        self._full.check()
        self._sliding.check()
        assert self._full.used == sum(len(s.full_pages) for s in self.running), "full pages are held by nobody"
        assert self._sliding.used == sum(len(s.sliding_pages) for s in self.running), "sliding pages are held by nobody"

    # --- pages ----------------------------------------------------------------------------------------------------

    def _make_room_for_speakers(self) -> None:
        """Every sequence that draws its next token gets its pages, if need be those of the youngest."""
        for sequence in list(self.running):
            while _speaks_next(sequence) and sequence in self.running and not self._take(sequence, 1):
                self._preempt(self.running[-1])

    def _extend(self, sequence: Sequence, budget: int, chunks: list[Chunk]) -> int:
        """Continue a prompt that is under way. Returns the tokens taken."""
        if sequence not in self.running:
            return 0
        count = self._chunk_size(sequence, budget, alone=not _any_prefill(chunks))
        while count and not self._take(sequence, count):
            youngest = self.running[-1]
            if youngest is sequence and len(self.running) > 1:
                return 0  # those before it will finish and make room
            if youngest is not sequence and youngest not in [chunk.sequence for chunk in chunks]:
                self._preempt(youngest)
            elif count > 1 and sequence.picture_at(sequence.computed) is None:
                count = self._chunk_size(sequence, count // 2, alone=False)
            else:
                return 0
        if count:
            chunks.append(_chunk(sequence, count))
        return count

    def _admit(self, sequence: Sequence, budget: int, chunks: list[Chunk]) -> int:
        """Start the oldest waiting sequence if all of its known tokens have room. Returns the tokens taken."""
        count = self._chunk_size(sequence, budget, alone=not _any_prefill(chunks))
        if not count:
            return 0
        promised = sum(self._limits.full_pages_for(s.length) - len(s.full_pages) for s in self.running)
        if self._full.free - promised < self._limits.full_pages_for(sequence.length) or not self._take(sequence, count):
            return 0
        self.waiting.popleft()
        self.running.append(sequence)
        chunks.append(_chunk(sequence, count))
        return count

    def _chunk_size(self, sequence: Sequence, budget: int, *, alone: bool) -> int:
        """Tokens of the next chunk: as many as the budget has, cut before an image rather than in it.

        An image longer than the budget is taken whole if the step has no other prompt (`alone`); else never.
        """
        if budget <= 0:
            return 0
        end = min(sequence.computed + budget, sequence.length)
        picture = sequence.picture_at(end - 1)
        if picture is None or picture.end <= end:
            return end - sequence.computed
        if picture.start > sequence.computed:
            return picture.start - sequence.computed
        return picture.end - sequence.computed if alone else 0

    def _take(self, sequence: Sequence, count: int) -> bool:
        """Pages for the next `count` tokens, all or none."""
        page, end = self._limits.page_tokens, sequence.computed + count
        full = max(0, self._limits.full_pages_for(end) - len(sequence.full_pages))
        first = max(0, sequence.computed - self._limits.window + 1) // page
        wanted = range(first, (end - 1) // page + 1) if self._limits.sliding_layers else range(0)
        missing = [index for index in wanted if index not in sequence.sliding_pages]
        if full > self._full.free or len(missing) > self._sliding.free:
            return False
        sequence.full_pages += self._full.take(full)
        sequence.sliding_pages.update(zip(missing, self._sliding.take(len(missing)), strict=True))
        return True

    def _preempt(self, sequence: Sequence) -> None:
        self.preemptions += 1
        self.running.remove(sequence)
        self._release(sequence)
        self.waiting.appendleft(sequence)

    def _release(self, sequence: Sequence) -> None:
        self._full.give_back(sequence.full_pages)
        self._sliding.give_back(sequence.sliding_pages.values())
        sequence.full_pages = []
        sequence.sliding_pages = {}
        sequence.computed = 0


def _chunk(sequence: Sequence, count: int) -> Chunk:
    return Chunk(sequence, sequence.computed, count, sequence.computed + count == sequence.length)


def _speaks_next(sequence: Sequence) -> bool:
    return sequence.computed == sequence.length - 1 and not sequence.complete


def _any_prefill(chunks: list[Chunk]) -> bool:
    return any(chunk.count > 1 for chunk in chunks)
