"""What a worker is believed to hold."""

from __future__ import annotations

import time

from hypothesis import given
from hypothesis import strategies as st

from gemmad.dispatch.prefixes import BLOCK_TOKENS, MOST_NAMES, Blocks, Held
from gemmad.generation import Capacity, ImageSpan, Prompt


def held(*, pages: int = 1000) -> Held:
    return Held(
        Capacity(
            max_context=1 << 17,
            max_sequences=8,
            max_step_tokens=2048,
            page_tokens=16,
            full_pages=pages,
            sliding_pages=pages,
        )
    )


def names(*ids: int, images: tuple[ImageSpan, ...] = ()) -> list[int]:
    return Blocks(Prompt(ids, images)).names()


def test_what_was_computed_is_held() -> None:
    """A text is held as far as it has whole blocks in common with what was computed."""
    worker = held()
    worker.add(names(*range(1000)))
    assert worker.tokens(names(*range(1000))) == 960
    assert worker.tokens(names(*range(500))) == 448
    assert worker.tokens(names(*range(300), *range(2000, 2500))) == 256
    assert worker.tokens(names(*range(1, 1000))) == 0
    assert worker.tokens(names(*range(63))) == 0


def test_a_reply_is_part_of_the_next_prompt() -> None:
    """What was said counts as if it had been in the prompt, wherever the border lies."""
    for length in (64, 100, 128, 130):
        worker = held()
        blocks = Blocks(Prompt(tuple(range(length))))
        blocks.names()
        worker.add(blocks.names(range(length, 400)))
        assert worker.tokens(names(*range(500))) == 384


@given(st.integers(0, 300), st.lists(st.integers(0, 100), max_size=4), st.integers(0, 290))
def test_names_do_not_depend_on_when_they_are_asked_for(length: int, asked: list[int], image_at: int) -> None:
    """A text has the same names however it grew and whatever of it was prompt."""
    images = (ImageSpan(image_at, 5, "dog"),) if image_at + 5 <= length else ()
    blocks, said = Blocks(Prompt(tuple(range(length)), images)), 0
    for more in asked:
        said += more
        blocks.names(range(length, length + said))
    assert blocks.names(range(length, length + said)) == names(*range(length + said), images=images)


def test_images_are_told_apart() -> None:
    """Equal tokens with other pictures, or the same pictures in another order, are another text."""
    ids = tuple([7] * 400)

    def spans(*digests: str) -> tuple[ImageSpan, ...]:
        return tuple(ImageSpan(70 + 100 * number, 90, digest) for number, digest in enumerate(digests))

    worker = held()
    worker.add(names(*ids, images=spans("dog", "cat")))
    assert worker.tokens(names(*ids, images=spans("dog", "cat"))) == 384
    assert worker.tokens(names(*ids, images=spans("dog", "owl"))) == 128  # the second begins at 170
    assert worker.tokens(names(*ids, images=spans("cat", "dog"))) == 64
    assert worker.tokens(names(*ids)) == 64


def test_memory_is_bounded_by_what_the_worker_holds() -> None:
    """What was untouched for longest is forgotten, the ends of texts before their beginnings."""
    worker = held(pages=80)  # 20 blocks
    worker.add(names(*range(640)))
    worker.add(names(*range(1000, 1640)))
    assert worker.tokens(names(*range(640))) == 640
    worker.add(names(*range(2000, 2320)))
    assert worker.tokens(names(*range(640))) == 320
    assert worker.tokens(names(*range(1000, 1640))) == 640
    worker.add(names(*range(640)))
    assert worker.tokens(names(*range(1000, 1640))) < 640


def test_memory_is_bounded_whatever_it_holds() -> None:
    """A worker with room for millions of tokens takes no more than MOST_NAMES here."""
    worker = held(pages=1 << 30)
    for start in range(0, 2 * MOST_NAMES, 1000):
        worker.add(list(range(start, start + 1000)))
    assert len(worker._names) == MOST_NAMES


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(1, 900)), max_size=30))
def test_the_beginning_of_what_is_held_is_held(texts: list[tuple[int, int]]) -> None:
    """Bisection is right: whatever came and went, no block is held without all before it."""
    worker = held(pages=60)
    for number, length in texts:
        text = names(*range(100, 200), *[number] * length)
        worker.add(text)
        for other in range(4):
            text = names(*range(100, 200), *[other] * 900)
            flags = [name in worker._names for name in text]
            assert flags == sorted(flags, reverse=True)
            assert worker.tokens(text) == BLOCK_TOKENS * sum(flags)


def test_trust_follows_what_the_worker_says() -> None:
    """A worker that does not have what it should (its cache is off, or too small) is believed less and less, and again
    once it has."""
    worker = held()
    for _ in range(30):
        worker.learn(expected_tokens=640, cached_tokens=0)
    assert worker.trust < 0.01
    worker.learn(expected_tokens=0, cached_tokens=0)
    for _ in range(30):
        worker.learn(expected_tokens=640, cached_tokens=700)
    assert worker.trust > 0.99


def test_naming_is_quick() -> None:
    """32768 tokens are named, looked up and added in less than the event loop would notice."""
    prompt = Prompt(tuple(range(1 << 15)))
    best = 1.0
    worker = held(pages=1 << 12)
    for _ in range(5):
        began = time.thread_time()
        text = Blocks(prompt).names()
        worker.tokens(text)
        worker.add(text)
        best = min(best, time.thread_time() - began)
    assert best < 0.005
