"""A scheduler with a device that is nothing but memory: it knows what each slot of each page holds, and checks it.

What a position's keys and values are is one number, a hash of all that they depend on: the tokens and images up to
there. A step reads what its chunks' tokens see of earlier steps, then writes its own, then draws; a token that is drawn
depends on what is drawn from and on the request's seed, so that equal requests say the same.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

from gemmad.engine.pages import PagePool
from gemmad.engine.prefix import page_keys
from gemmad.engine.scheduler import Chunk, Limits, Scheduler
from gemmad.engine.sequence import Picture, Sequence, new_sequence
from gemmad.generation import ImageSpan, Prompt, SamplingParams

IMAGE = 5


@dataclass
class Bench:
    """Steps a scheduler and checks every step of it."""

    scheduler: Scheduler
    limits: Limits
    full: PagePool
    sliding: PagePool
    late: bool = False
    """Tokens are heard one step after they are drawn, as an engine with overlap does."""
    under_way: list[tuple[Sequence, int]] = field(default_factory=list)
    memory: dict[tuple[str, int], int] = field(default_factory=dict)
    """Content of a pool's slots."""
    truth: dict[Sequence, list[int]] = field(default_factory=dict)
    """All tokens of each sequence, those that nobody has heard yet included."""
    contents: dict[Sequence, list[int]] = field(default_factory=dict)
    names: dict[bytes, tuple[int, ...]] = field(default_factory=dict)
    """What each key stood for when it was first seen."""

    def add(self, sequence: Sequence) -> Sequence:
        """Queue a request."""
        self.truth[sequence] = list(sequence.tokens)
        self.contents[sequence] = []
        self.scheduler.add(sequence)
        return sequence

    @property
    def busy(self) -> bool:
        """Whether somebody runs or waits."""
        return bool(self.scheduler.running or self.scheduler.waiting)

    def is_alive(self, sequence: Sequence) -> bool:
        """Whether a request has not ended."""
        return sequence in self.scheduler.running or sequence in self.scheduler.waiting

    def drain(self) -> None:
        """Step until nobody is left."""
        for _ in range(20_000):
            if not self.busy:
                break
            self.step()
        assert not self.busy
        self.under_way.clear()
        assert self.scheduler.pages_used == (0, 0)

    def run(self, sequence: Sequence) -> Sequence:
        """One request by itself, from its beginning to its end."""
        self.add(sequence)
        self.drain()
        return sequence

    def step(self) -> list[Chunk]:
        """One step, checked: no image is cut, no page is missing, no token is skipped, what is read is what should be
        there, and what is kept is what it is called."""
        running = set(self.scheduler.running)
        chunks = self.scheduler.schedule()
        assert chunks or self.under_way or not self.busy, "a stall"
        assert len({chunk.sequence for chunk in chunks}) == len(chunks)
        for chunk in chunks:
            self._check(chunk, admitted=chunk.sequence not in running)
        budget = max(self.limits.step_tokens, sum(chunk.count == 1 for chunk in chunks) + IMAGE)
        assert sum(chunk.count for chunk in chunks) <= budget
        pictures = sum(len(chunk.sequence.pictures_in(chunk.start, chunk.end)) for chunk in chunks)
        assert pictures <= self.limits.step_tokens // IMAGE + 1, "more images than the encoder has places for"
        for chunk in chunks:
            self._read(chunk)
        for chunk in chunks:
            self._write(chunk)
        drawn = [(chunk.sequence, self._draw(chunk)) for chunk in chunks if chunk.speaks]
        self.scheduler.advance(chunks)
        heard, self.under_way = (self.under_way, drawn) if self.late else (drawn, [])
        for sequence, token in heard:
            if self.is_alive(sequence) and sequence.append(token) is not None:
                self.scheduler.remove(sequence)
        self.audit()
        return chunks

    def audit(self) -> None:
        """The books balance, every sequence has what it computed, and every key names one content for ever."""
        self.scheduler.check()
        for sequence in self.scheduler.running:
            self._see(sequence, 0, sequence.computed)
            assert list(sequence.sliding_pages) == sorted(sequence.sliding_pages)
        for name, pool in (("full", self.full), ("sliding", self.sliding)):
            for key, page in pool._page_of.items():
                content = tuple(self.memory[name, slot] for slot in self._slots(page))
                assert self.names.setdefault(key, content) == content, "a page is not what it is called"
        assert len(set(self.names.values())) == len(self.names), "one content has two names"
        for sequence in self.truth:
            known = page_keys(sequence, 0, page_tokens=self.limits.page_tokens)
            for flags in ([self.full.has(key) for key in known], [self.full.is_held(key) for key in known]):
                assert flags == sorted(flags, reverse=True), "a page is there and one before it is not"

    # --- the device -------------------------------------------------------------------------------------------------

    def _check(self, chunk: Chunk, *, admitted: bool) -> None:
        sequence, page = chunk.sequence, self.limits.page_tokens
        assert chunk.start == sequence.computed
        assert chunk.count >= 1
        for picture in sequence.pictures:
            assert not picture.start < chunk.end < picture.end
            assert admitted or not picture.start < chunk.start < picture.end
        if self.limits.full_layers:
            assert len(sequence.full_pages) >= -(-chunk.end // page)
        if self.limits.sliding_layers:
            first = max(0, chunk.start - self.limits.window + 1)
            assert set(range(first // page, (chunk.end - 1) // page + 1)) <= set(sequence.sliding_pages)

    def _read(self, chunk: Chunk) -> None:
        self._see(chunk.sequence, 0, chunk.start)

    def _see(self, sequence: Sequence, start: int, end: int) -> None:
        """What a token at `end` sees is there: everything in full pages, and its window in sliding ones."""
        first = max(start, end - self.limits.window + 1)
        contents = self._contents(sequence, end)
        for position in range(start, end):
            if self.limits.full_layers:
                assert self.memory["full", self._slot(sequence.full_pages, position)] == contents[position]
            if self.limits.sliding_layers and position >= first:
                assert self.memory["sliding", self._slot(sequence.sliding_pages, position)] == contents[position]

    def _write(self, chunk: Chunk) -> None:
        contents = self._contents(chunk.sequence, chunk.end)
        for position in range(chunk.start, chunk.end):
            if self.limits.full_layers:
                self.memory["full", self._slot(chunk.sequence.full_pages, position)] = contents[position]
            if self.limits.sliding_layers:
                self.memory["sliding", self._slot(chunk.sequence.sliding_pages, position)] = contents[position]

    def _draw(self, chunk: Chunk) -> int:
        sequence = chunk.sequence
        assert len(self.truth[sequence]) == chunk.end, "a token is drawn twice"
        token = (self._contents(sequence, chunk.end)[-1] + sequence.sampling.seed) % 2
        self.truth[sequence].append(token)
        return token

    def _contents(self, sequence: Sequence, end: int) -> list[int]:
        known = self.contents[sequence]
        for position in range(len(known), end):
            picture = sequence.picture_at(position)
            own = (self.truth[sequence][position],) if picture is None else _soft_token(picture, position)
            known.append(hash((known[-1] if known else 0, *own)))
        return known[:end]

    def _slot(self, pages: list[int] | dict[int, int], position: int) -> int:
        page = self.limits.page_tokens
        return pages[position // page] * page + position % page

    def _slots(self, page: int) -> range:
        return range(page * self.limits.page_tokens, (page + 1) * self.limits.page_tokens)


def _soft_token(picture: Picture, position: int) -> tuple[int, ...]:
    """An image is seen as a whole from each of its tokens."""
    return 7, int(picture.span.digest), position - picture.start, picture.span.length


def bench(
    *,
    sequences: int = 4,
    budget: int = 8,
    page: int = 4,
    window: int = 6,
    longest: int = 60,
    more: int = 0,
    more_full: int = 0,
    late: bool = False,
    prefix_cache: bool = False,
    full_layers: bool = True,
    sliding_layers: bool = True,
) -> Bench:
    """Pages for one longest sequence, and `more`, and still more of the full ones."""
    limits = Limits(
        max_sequences=sequences,
        step_tokens=budget,
        page_tokens=page,
        window=window,
        full_layers=full_layers,
        sliding_layers=sliding_layers,
    )
    full = PagePool(limits.full_pages_for(longest) + more + more_full)
    sliding = PagePool(limits.most_sliding_pages(longest, max(budget, IMAGE)) + more)
    return Bench(Scheduler(limits, full, sliding, prefix_cache=prefix_cache), limits, full, sliding, late)


def sequence(
    number: int,
    tokens: int | tuple[int, ...],
    *,
    say: int = 4,
    seed: int = 0,
    images: dict[int, int] | tuple[int, ...] = (),
    generated: tuple[int, ...] = (),
) -> Sequence:
    """A request, of so many tokens or of these, with images at the given positions, whose digests may be given too."""
    ids = (1,) * tokens if isinstance(tokens, int) else tokens
    digests = images if isinstance(images, dict) else {start: start for start in images}
    spans = tuple(ImageSpan(start, IMAGE, str(digest)) for start, digest in digests.items())
    pixels = tuple(torch.zeros(1, 1, 3, dtype=torch.uint8) for _ in spans)
    sampling = SamplingParams(max_tokens=say, seed=seed)
    return new_sequence(number, Prompt(ids, spans), sampling, pixels=pixels, generated=generated)
