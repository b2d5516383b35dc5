"""Which tokens a step computes, over scripts of requests that no one would think of."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gemmad.engine.pages import PagePool
from gemmad.engine.scheduler import Chunk, Limits, Scheduler
from gemmad.engine.sequence import Sequence, new_sequence
from gemmad.generation import ImageSpan, Prompt, SamplingParams

IMAGE = 5


@dataclass
class Bench:
    """A scheduler and a worker that draws token 0 for whoever speaks."""

    scheduler: Scheduler
    limits: Limits
    late: bool = False
    """Tokens are heard one step after they are drawn, as an engine with overlap does."""
    under_way: list[Sequence] = field(default_factory=list)

    def step(self) -> list[Chunk]:
        """One step, checked: no image is cut, no page is missing, no token is skipped."""
        chunks = self.scheduler.schedule()
        assert chunks or self.under_way or not (self.scheduler.running or self.scheduler.waiting), "a stall"
        assert len({id(chunk.sequence) for chunk in chunks}) == len(chunks)
        for chunk in chunks:
            self._check(chunk)
        budget = max(self.limits.step_tokens, sum(chunk.count == 1 for chunk in chunks) + IMAGE)
        assert sum(chunk.count for chunk in chunks) <= budget
        self.scheduler.advance(chunks)
        spoke = [chunk.sequence for chunk in chunks if chunk.speaks]
        heard, self.under_way = (self.under_way, spoke) if self.late else (spoke, [])
        for s in heard:
            alive = s in self.scheduler.running or s in self.scheduler.waiting
            if alive and s.append(0) is not None:
                self.scheduler.remove(s)
        self.scheduler.check()
        return chunks

    def _check(self, chunk: Chunk) -> None:
        sequence, page = chunk.sequence, self.limits.page_tokens
        assert chunk.start == sequence.computed
        assert chunk.count >= 1
        for picture in sequence.pictures:
            assert not chunk.start < picture.end < chunk.end or chunk.start <= picture.start
            assert not picture.start < chunk.end < picture.end
        assert len(sequence.full_pages) >= -(-chunk.end // page)
        first = max(0, chunk.start - self.limits.window + 1)
        assert set(range(first // page, (chunk.end - 1) // page + 1)) <= set(sequence.sliding_pages)


def bench(
    *,
    sequences: int = 4,
    budget: int = 8,
    page: int = 4,
    window: int = 6,
    longest: int = 60,
    more: int = 0,
    late: bool = False,
) -> Bench:
    """Pages for one longest sequence, and `more`."""
    limits = Limits(max_sequences=sequences, step_tokens=budget, page_tokens=page, window=window)
    full = PagePool(limits.full_pages_for(longest) + more)
    sliding = PagePool(limits.most_sliding_pages(longest, max(budget, IMAGE)) + more)
    return Bench(Scheduler(limits, full, sliding), limits, late)


def sequence(number: int, length: int, *, say: int = 4, images: tuple[int, ...] = ()) -> Sequence:
    """A request with images at the given positions."""
    spans = tuple(ImageSpan(start, IMAGE, str(start)) for start in images)
    pixels = tuple(torch.zeros(1, 1, 3, dtype=torch.uint8) for _ in spans)
    return new_sequence(number, Prompt((1,) * length, spans), SamplingParams(max_tokens=say), pixels=pixels)


def test_speakers_go_before_prompts() -> None:
    """A long prompt is cut into what the speakers leave of the budget."""
    b = bench(more=20)
    b.scheduler.add(sequence(1, 2, say=9))
    b.step()
    b.scheduler.add(sequence(2, 30))
    assert [(c.sequence.request_id, c.count) for c in b.step()] == [(1, 1), (2, 7)]
    assert [(c.sequence.request_id, c.count) for c in b.step()] == [(1, 1), (2, 7)]


def test_a_chunk_ends_before_an_image_that_does_not_fit() -> None:
    """An image at the budget's edge moves whole into the next step."""
    b = bench(more=20)
    b.scheduler.add(sequence(1, 20, images=(6,)))
    assert [c.count for c in b.step()] == [6]
    assert [c.count for c in b.step()] == [8]


def test_an_image_longer_than_the_budget_is_taken_whole() -> None:
    """A budget smaller than an image does not block its request for ever."""
    b = bench(budget=3, more=20)
    b.scheduler.add(sequence(1, 12, images=(2,)))
    assert [b.step()[0].count for _ in range(4)] == [2, IMAGE, 3, 2]


def test_the_youngest_gives_way() -> None:
    """When pages run out the youngest is preempted, waits at the head, and the oldest goes on."""
    b = bench(longest=24, budget=16)
    b.scheduler.add(sequence(1, 11, say=12))
    b.scheduler.add(sequence(2, 11, say=12))
    b.scheduler.add(sequence(3, 3, say=2))
    while not b.scheduler.preemptions:
        b.step()
    assert [s.request_id for s in b.scheduler.running] == [1]
    assert [s.request_id for s in b.scheduler.waiting] == [2, 3]


def test_removal_frees_pages_at_once() -> None:
    """A cancelled request leaves no page behind, wherever it is."""
    b = bench(more=20)
    running, waiting = sequence(1, 20), sequence(2, 20)
    for s in (running, waiting):
        b.scheduler.add(s)
    b.step()
    b.scheduler.remove(waiting)
    b.scheduler.remove(running)
    assert b.scheduler.pages_used == (0, 0)


requests = st.builds(
    lambda prefix, images, tail, say: (prefix, images, tail, say),
    st.integers(1, 12), st.integers(0, 3), st.integers(1, 12), st.integers(1, 10),
)  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(["add", "step", "drop"]), requests, st.integers(0, 7)), max_size=40),
    st.integers(1, 4), st.integers(1, 24), st.integers(1, 8), st.integers(1, 20), st.integers(0, 12), st.booleans(),
)  # fmt: skip
def test_any_script_ends(
    script: list[tuple[str, tuple[int, int, int, int], int]],
    sequences: int,
    budget: int,
    page: int,
    window: int,
    more: int,
    late: bool,
) -> None:
    """Whatever comes, whoever leaves, however few the pages: every request is computed, and no page is left over."""
    b = bench(sequences=sequences, budget=budget, page=page, window=window, more=more, late=late)
    alive: list[Sequence] = []
    for number, (action, (prefix, images, tail, say), pick) in enumerate(script):
        alive = [s for s in alive if s in b.scheduler.running or s in b.scheduler.waiting]
        if action == "add":
            starts = tuple(prefix + i * (IMAGE + 1) for i in range(images))
            length = prefix + images * (IMAGE + 1) + tail
            alive.append(sequence(number, length, say=say, images=starts))
            b.scheduler.add(alive[-1])
        elif action == "drop" and alive:
            b.scheduler.remove(alive.pop(pick % len(alive)))
        else:
            b.step()
    for _ in range(20_000):
        if not (b.scheduler.running or b.scheduler.waiting):
            break
        b.step()
    assert not b.scheduler.running
    assert not b.scheduler.waiting
    assert b.scheduler.pages_used == (0, 0)
