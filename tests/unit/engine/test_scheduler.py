"""Which tokens a step computes, over scripts of requests that no one would think of."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from gemmad.engine.sequence import Sequence
from tests.unit.engine.bench import IMAGE, bench, sequence


def test_speakers_go_before_prompts() -> None:
    """A long prompt is cut into what the speakers leave of the budget."""
    b = bench(more=20)
    b.add(sequence(1, 2, say=9))
    b.step()
    b.add(sequence(2, 30))
    assert [(c.sequence.request_id, c.count) for c in b.step()] == [(1, 1), (2, 7)]
    assert [(c.sequence.request_id, c.count) for c in b.step()] == [(1, 1), (2, 7)]


def test_a_chunk_ends_before_an_image_that_does_not_fit() -> None:
    """An image at the budget's edge moves whole into the next step."""
    b = bench(more=20)
    b.add(sequence(1, 20, images=(6,)))
    assert [c.count for c in b.step()] == [6]
    assert [c.count for c in b.step()] == [8]


def test_an_image_longer_than_the_budget_is_taken_whole() -> None:
    """A budget smaller than an image does not block its request for ever."""
    b = bench(budget=3, more=20)
    b.add(sequence(1, 12, images=(2,)))
    assert [b.step()[0].count for _ in range(4)] == [2, IMAGE, 3, 2]


def test_the_youngest_gives_way() -> None:
    """When pages run out the youngest is preempted, waits at the head, and the oldest goes on."""
    b = bench(longest=24, budget=16)
    b.add(sequence(1, 11, say=12))
    b.add(sequence(2, 11, say=12))
    b.add(sequence(3, 3, say=2))
    while not b.scheduler.preemptions:
        b.step()
    assert [s.request_id for s in b.scheduler.running] == [1]
    assert [s.request_id for s in b.scheduler.waiting] == [2, 3]


def test_removal_frees_pages_at_once() -> None:
    """A cancelled request leaves no page behind, wherever it is."""
    b = bench(more=20)
    running, waiting = sequence(1, 20), sequence(2, 20)
    for s in (running, waiting):
        b.add(s)
    b.step()
    b.scheduler.remove(waiting)
    b.scheduler.remove(running)
    assert b.scheduler.pages_used == (0, 0)


requests = st.builds(
    lambda prefix, images, tail, say: (prefix, images, tail, say),
    st.integers(1, 12), st.lists(st.integers(1, 2), max_size=3), st.integers(1, 12), st.integers(1, 10),
)  # fmt: skip


shapes = st.fixed_dictionaries({
    "sequences": st.integers(1, 4),
    "budget": st.integers(1, 24),
    "page": st.integers(1, 8),
    "window": st.integers(1, 20),
    "more": st.integers(0, 12),
    "more_full": st.sampled_from([0, 60]),
    "late": st.booleans(),
    "prefix_cache": st.booleans(),
    "full_layers": st.sampled_from([True, True, False]),
})  # fmt: skip


@settings(max_examples=400, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(["add", "step", "drop"]), requests, st.integers(0, 7)), max_size=40),
    shapes,
    st.sampled_from([True, True, False]),
)
def test_any_script_ends(
    script: list[tuple[str, tuple[int, list[int], int, int], int]], shape: dict[str, Any], sliding_layers: bool
) -> None:
    """Whatever comes, whoever leaves, however few the pages: every request is computed on what it should see, and no
    page is left over."""
    b = bench(**shape, sliding_layers=sliding_layers or not shape["full_layers"])
    alive: list[Sequence] = []
    for number, (action, (prefix, images, tail, say), pick) in enumerate(script):
        alive = [s for s in alive if b.is_alive(s)]
        if action == "add":
            digests = {prefix + i * (IMAGE + 1): digest for i, digest in enumerate(images)}
            length = prefix + len(images) * (IMAGE + 1) + tail
            tokens = tuple(int(i % 5 < 4 or pick == 0) for i in range(length))
            alive.append(b.add(sequence(number, tokens, say=say, seed=pick % 2, images=digests)))
        elif action == "drop" and alive:
            b.scheduler.remove(alive.pop(pick % len(alive)))
            b.audit()
        else:
            b.step()
    b.drain()
