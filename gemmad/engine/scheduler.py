"""What the next step computes. Continuous batching (Orca, OSDI 2022) with chunked prefill (Sarathi, OSDI 2024).

Sequences that speak come first, one token each, so that no long prompt makes them stutter; what is left of the step's
budget goes to prompts, oldest first, in chunks. A chunk never ends inside an image, because its tokens see each other
both ways. When pages run out, the youngest sequence gives all of its pages back and waits, at the head, to begin again.

    waiting ──admit──▶ running ──finish──▶ gone
       ▲                  │
       └────preempt───────┘

Pages are the only thing that changes hands here; nothing is computed. Positions [computed, computed + count) of a chunk
need a full page each P tokens, and sliding pages for [computed - window + 1, computed + count). What pages hold already
of a sequence that is admitted is taken over from the prefix cache, and its first chunk begins behind that.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

from gemmad.engine.pages import PagePool
from gemmad.engine.prefix import MISS, Hit, PrefixCache
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

    def __init__(self, limits: Limits, full: PagePool, sliding: PagePool, *, prefix_cache: bool = False) -> None:
        self._limits = limits
        self._full = full
        self._sliding = sliding
        self._prefixes: PrefixCache | None = None
        if prefix_cache:
            self._prefixes = PrefixCache(
                full if limits.full_layers else None,
                sliding if limits.sliding_layers else None,
                page_tokens=limits.page_tokens,
                window=limits.window,
            )
        self.waiting: deque[Sequence] = deque()
        self.running: list[Sequence] = []
        self.preemptions = 0
        self.prompt_tokens = 0
        """Of all that were admitted, once each."""
        self.cached_tokens = 0
        """Those of them that pages held."""

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

    def schedule_less(self) -> list[Chunk]:
        """In place of the step that was scheduled last and could not be computed: the younger half of what runs gives
        way, prompts get half of the budget, and nobody is admitted. Empty when there is no less to do."""
        for sequence in self.running[max(1, len(self.running) // 2) :]:
            self._preempt(sequence)
        chunks = [_chunk(s, 1) for s in self.running if _speaks_next(s)]
        budget = self._limits.step_tokens // 2 - len(chunks)
        for sequence in [s for s in self.running if s.computed < s.length - 1]:
            budget -= self._extend(sequence, budget, chunks)
        return chunks

    def advance(self, chunks: Iterable[Chunk]) -> None:
        """The chunks are under way: what they compute counts, and sliding pages behind the window are free.

        A page freed now may be written by the next step, and one that is filled now may be read by it; steps follow one
        another on the device, so none is early.
        """
        for chunk in chunks:
            sequence = chunk.sequence
            sequence.pending += chunk.speaks
            sequence.computed = chunk.end
            if self._prefixes is not None:
                self._prefixes.register(sequence)
            held = sequence.sliding_pages
            first = (chunk.end - self._limits.window + 1) // self._limits.page_tokens
            while (index := next(iter(held), first)) < first:
                self._sliding.give_back((held.pop(index),))

    def forget_prefixes(self) -> None:
        """Begin as if nothing had ever been computed. Nothing may be running."""
        self._full.forget()
        self._sliding.forget()
        self.prompt_tokens = self.cached_tokens = 0

    @property
    def pages_used(self) -> tuple[int, int]:
        """Full and sliding pages that sequences hold."""
        return self._full.used, self._sliding.used

    def check(self) -> None:
        """Both pools balance, and whatever is held is held by running sequences."""
        self._full.check()
        self._sliding.check()
        assert self._full.holds == sum(len(s.full_pages) for s in self.running), "full pages are held by nobody"
        assert self._sliding.holds == sum(len(s.sliding_pages) for s in self.running), (
            "sliding pages are held by nobody"
        )

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
        count = self._chunk_size(sequence, sequence.computed, budget=budget, alone=not _any_prefill(chunks))
        while count and not self._take(sequence, count):
            youngest = self.running[-1]
            if youngest is sequence and len(self.running) > 1:
                return 0  # those before it will finish and make room
            if youngest is not sequence and youngest not in [chunk.sequence for chunk in chunks]:
                self._preempt(youngest)
            elif count > 1 and sequence.picture_at(sequence.computed) is None:
                count = self._chunk_size(sequence, sequence.computed, budget=count // 2, alone=False)
            else:
                return 0
        if count:
            chunks.append(_chunk(sequence, count))
        return count

    def _admit(self, sequence: Sequence, budget: int, chunks: list[Chunk]) -> int:
        """Start the oldest waiting sequence if all of its known tokens have room. Returns the tokens taken.

        What a hit holds of an image that it ends in is taken from the budget, too: the image is encoded as a whole, and
        the budget is what bounds the images of a step.
        """
        hit = MISS if self._prefixes is None else self._prefixes.match(sequence)
        if self._is_in_the_making(sequence, hit, chunks):
            return 0
        start = hit.pages * self._limits.page_tokens
        picture = sequence.picture_at(start)
        held = start - picture.start if picture is not None else 0
        count = self._chunk_size(sequence, start, budget=max(1, budget - held), alone=not _any_prefill(chunks))
        if not count or not self._has_room(sequence, hit, start + count):
            return 0
        if self._prefixes is not None:
            self._prefixes.acquire(sequence, hit)
        taken = self._take(sequence, count)
        assert taken, "pages were promised twice"
        if sequence.cached_tokens is None:
            sequence.cached_tokens = min(start, sequence.prompt_tokens)
            self.prompt_tokens += sequence.prompt_tokens
            self.cached_tokens += sequence.cached_tokens
        self.waiting.popleft()
        self.running.append(sequence)
        chunks.append(_chunk(sequence, count))
        return count + held

    def _is_in_the_making(self, sequence: Sequence, hit: Hit, chunks: list[Chunk]) -> bool:
        """Whether this very step computes the page that a waiting sequence would begin with, for another one: a step
        later it is there to be taken over. So equal prompts that come together are computed once."""
        page, first = self._limits.page_tokens, hit.pages
        if self._prefixes is None or len(sequence.page_keys) <= first:
            return False
        key = sequence.page_keys[first]
        return any(
            chunk.start <= first * page
            and chunk.end >= (first + 1) * page
            and len(chunk.sequence.page_keys) > first
            and chunk.sequence.page_keys[first] == key
            for chunk in chunks
            if chunk.count > 1
        )

    def _has_room(self, sequence: Sequence, hit: Hit, end: int) -> bool:
        """Whether all known tokens of a waiting sequence have full pages beside what those that run will need, and its
        tokens up to `end` have sliding ones. Pages of the hit that nobody holds stop being free with it."""
        limits = self._limits
        promised = sum(limits.full_pages_for(s.length) - len(s.full_pages) for s in self.running)
        sliding = -(-end // limits.page_tokens) - hit.pages + hit.free_sliding if limits.sliding_layers else 0
        full = limits.full_pages_for(sequence.length) - hit.held_full
        return full <= self._full.free - promised and sliding <= self._sliding.free

    def _chunk_size(self, sequence: Sequence, start: int, *, budget: int, alone: bool) -> int:
        """Tokens of the chunk that begins at `start`: as many as the budget has, cut before an image rather than in it.

        An image longer than the budget is taken whole if the step has no other prompt (`alone`); else never.
        """
        if budget <= 0:
            return 0
        end = min(start + budget, sequence.length)
        picture = sequence.picture_at(end - 1)
        if picture is None or picture.end <= end:
            return end - start
        if picture.start > start:
            return picture.start - start
        return picture.end - start if alone else 0

    def _take(self, sequence: Sequence, count: int) -> bool:
        """Pages for the next `count` tokens, all or none."""
        page, end, held = self._limits.page_tokens, sequence.computed + count, sequence.sliding_pages
        full = max(0, self._limits.full_pages_for(end) - len(sequence.full_pages))
        first = max(0, sequence.computed - self._limits.window + 1) // page
        first = max(first, next(reversed(held), -1) + 1)
        missing = range(first, (end - 1) // page + 1) if self._limits.sliding_layers else range(0)
        if full > self._full.free or len(missing) > self._sliding.free:
            return False
        if full:
            sequence.full_pages += self._full.take(full)
        if missing:
            held.update(zip(missing, self._sliding.take(len(missing)), strict=True))
        return True

    def _preempt(self, sequence: Sequence) -> None:
        self.preemptions += 1
        self.running.remove(sequence)
        self._release(sequence)
        self.waiting.appendleft(sequence)

    def _release(self, sequence: Sequence) -> None:
        """Give all pages back, the last first: a beginning without its end is worth more than an end without it."""
        if self._prefixes is not None:
            self._prefixes.register(sequence)
        self._full.give_back(reversed(sequence.full_pages))
        self._sliding.give_back(reversed(sequence.sliding_pages.values()))
        sequence.full_pages = []
        sequence.sliding_pages = {}
        sequence.computed = sequence.registered = 0


def _chunk(sequence: Sequence, count: int) -> Chunk:
    return Chunk(sequence, sequence.computed, count, sequence.computed + count == sequence.length)


def _speaks_next(sequence: Sequence) -> bool:
    return sequence.computed == sequence.length - 1 and not sequence.complete


def _any_prefill(chunks: list[Chunk]) -> bool:
    return any(chunk.count > 1 for chunk in chunks)
