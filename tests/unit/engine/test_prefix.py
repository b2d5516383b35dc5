"""What is found again of what was computed. That whatever is found is right, `Bench` checks at every step."""

from __future__ import annotations

import random

import pytest

from gemmad.engine.flat import flatten
from gemmad.engine.prefix import page_keys
from gemmad.engine.sequence import Sequence
from tests.unit.engine.bench import IMAGE, Bench, bench, sequence


def tokens(count: int, *, seed: int = 0) -> tuple[int, ...]:
    """Ids that do not repeat."""
    return tuple(random.Random(seed).sample(range(10, 10_000), count))


def cached(b: Bench, asked: Sequence) -> int:
    """Tokens that a request finds when it is served by itself."""
    b.run(asked)
    assert asked.cached_tokens is not None
    return asked.cached_tokens


def keys(asked: Sequence, *, page: int = 4) -> list[bytes]:
    """Names of all of its whole pages."""
    return page_keys(asked, len(asked.tokens) // page, page_tokens=page)


# --- keys -----------------------------------------------------------------------------------------------------------


def test_a_key_names_all_that_is_before_it() -> None:
    """Two sequences have equal keys as far as their tokens are equal, page by page."""
    one, other = keys(sequence(1, (1, 2, 3, 4, 5, 6, 7, 8))), keys(sequence(2, (1, 2, 3, 4, 5, 6, 7, 9)))
    late = keys(sequence(3, (0, 2, 3, 4, 5, 6, 7, 8)))
    assert one[0] == other[0]
    assert one[1] != other[1]
    assert set(one).isdisjoint(late)


def test_keys_come_bit_by_bit() -> None:
    """However often a sequence grows, its keys are those of the whole."""
    ids, images = tokens(40), {6: 1, 20: 2}
    grown = sequence(1, ids, images=images)
    for count in (1, 2, 5, 6, 10):
        page_keys(grown, count, page_tokens=4)
    assert grown.page_keys == keys(sequence(2, ids, images=images))


def test_an_image_is_in_the_keys_of_all_its_pages() -> None:
    """Another image, or the same one elsewhere, gives other keys from the page on where it begins."""
    ids = (1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)
    plain, one, other, shifted = (keys(sequence(1, ids, images=images)) for images in ({}, {2: 1}, {2: 2}, {3: 1}))
    for a, b in ((plain, one), (one, other), (one, shifted)):
        assert set(a).isdisjoint(b)
    behind = keys(sequence(1, ids, images={5: 1}))
    assert behind[0] == plain[0]
    assert set(behind[1:]).isdisjoint(plain)


def test_ids_of_soft_tokens_do_not_count() -> None:
    """The network reads the image and not the ids that stand for it, which need not be ids of the vocabulary."""
    one = sequence(1, (5, *(2**70,) * IMAGE, 6, 7), images={1: 1})
    other = sequence(2, (5, *range(IMAGE), 6, 7), images={1: 1})
    assert keys(one) == keys(other)


# --- hits -----------------------------------------------------------------------------------------------------------


def test_a_prompt_that_was_served_before() -> None:
    """All of its whole pages are taken over, and at least one token is computed."""
    for length, found in ((4, 0), (5, 4), (19, 16), (20, 16), (21, 20)):
        b = bench(prefix_cache=True)
        assert cached(b, sequence(1, tokens(length))) == 0
        b.add(again := sequence(2, tokens(length)))
        assert b.step()[0].start == again.cached_tokens == found


def test_what_was_said_is_found_too() -> None:
    """The next turn of a chat begins with the prompt and the reply of the last one."""
    for late in (False, True):
        b = bench(prefix_cache=True, late=late)
        first = b.run(sequence(1, tokens(6), say=11))
        assert len(first.tokens) == 17
        assert cached(b, sequence(2, (*first.tokens, 1, 2, 3))) == 16


def test_the_window_is_all_that_is_needed_of_the_sliding_pages() -> None:
    """A beginning much longer than the window is taken over although its first sliding pages are long gone."""
    b = bench(prefix_cache=True, window=6, longest=200)
    assert b.sliding.count < 10
    b.run(sequence(1, tokens(100)))
    assert cached(b, sequence(2, tokens(101))) == 100


def test_a_hit_ends_where_the_sliding_pages_are_there() -> None:
    """Where the window's pages at the end are lost, an earlier end is found whose pages are not."""
    b = bench(prefix_cache=True, longest=60, more=30)
    first = b.run(sequence(1, tokens(40)))
    b.run(sequence(2, (*tokens(22), *tokens(18, seed=1))))  # makes the window before position 20 young
    taken = []
    while b.sliding.has(keys(first)[9]):
        taken += b.sliding.take(1)
    b.sliding.give_back(taken)
    assert b.full.has(keys(first)[9])
    assert cached(b, sequence(3, tokens(40))) == 20


def test_an_end_in_the_middle() -> None:
    """Two prompts with a beginning in common share it, also where it ends in the middle of the first one."""
    b = bench(prefix_cache=True, longest=60, more=30)
    b.run(sequence(1, tokens(40)))
    assert cached(b, sequence(2, (*tokens(22), *tokens(18, seed=1)))) == 20


def test_an_evicted_beginning_is_computed_again() -> None:
    """Other traffic takes the pages of what was not asked for the longest."""
    b = bench(prefix_cache=True, longest=40)
    b.run(sequence(1, tokens(20)))
    for number in range(2, 6):
        b.run(sequence(number, tokens(20, seed=number)))
    assert cached(b, sequence(9, tokens(20, seed=5))) == 16
    assert cached(b, sequence(9, tokens(20))) == 0


def test_equal_prompts_that_come_together_are_computed_once() -> None:
    """The first is computed, the others begin a step later behind all of its whole pages."""
    b = bench(prefix_cache=True, budget=64, more=60)
    asked = [b.add(sequence(number, tokens(22), seed=number, say=3)) for number in range(3)]
    assert [(c.sequence.request_id, c.count) for c in b.step()] == [(0, 22)]
    assert [(c.sequence.request_id, c.count) for c in b.step()] == [(0, 1), (1, 2), (2, 2)]
    assert [s.cached_tokens for s in asked] == [0, 20, 20]
    b.drain()


def test_prompts_that_begin_apart_do_not_wait() -> None:
    """Only the page that a prompt would begin with, and only as a whole, is worth waiting for."""
    b = bench(prefix_cache=True, budget=64, more=60)
    for number in range(3):
        b.add(sequence(number, tokens(20, seed=number)))
    b.add(sequence(3, tokens(20)[:3]))
    assert len(b.step()) == 4
    b.drain()


def test_two_at_once_hold_one_copy() -> None:
    """What is computed side by side all the same, as here two equal replies, goes on with one page for each content."""
    b = bench(prefix_cache=True, budget=64, more=60)
    for number in range(3):
        b.add(sequence(number, tokens(20), seed=0, say=9))
    for _ in range(7):
        b.step()
    held = [s.full_pages[:6] for s in b.scheduler.running]
    assert held == [held[0]] * 3
    b.drain()


def test_an_unknown_token_is_not_registered() -> None:
    """A page whose last token is still being drawn is found a step later, when it is known."""
    b = bench(prefix_cache=True, late=True, more=60)
    first = b.add(sequence(1, tokens(7), say=5))
    b.step()
    b.step()  # computes position 7, which the first step drew
    assert (first.computed, len(first.tokens), first.registered) == (8, 8, 1)
    b.step()
    assert first.registered == 2
    b.drain()


def test_a_preempted_sequence_finds_its_own_pages() -> None:
    """What it had computed is not computed again, if nobody has needed the pages; what it is told stays as it was."""
    b = bench(prefix_cache=True, longest=24, budget=16)
    for number in (1, 2):
        b.add(sequence(number, tokens(11, seed=number), say=6))
    while not b.scheduler.preemptions:
        b.step()
    (away,) = b.scheduler.waiting
    starts = [chunk.start for _ in range(8) for chunk in b.step() if chunk.sequence is away and chunk.count > 1]
    assert starts == [8]
    b.drain()
    assert away.cached_tokens == 0
    assert (b.scheduler.prompt_tokens, b.scheduler.cached_tokens) == (22, 0)


def test_a_head_that_waits_disturbs_nobody() -> None:
    """A request that finds its beginning but no room for the rest holds nothing and makes nothing young."""
    b = bench(prefix_cache=True, longest=40, window=40, budget=64)
    b.run(sequence(1, tokens(13)))
    b.add(sequence(2, tokens(30, seed=2), say=8))
    b.step()
    b.add(head := sequence(3, (*tokens(13), *tokens(12, seed=3))))
    before = list(b.full._kept), list(b.sliding._kept)
    assert before[0]
    b.step()
    assert list(b.scheduler.waiting) == [head]
    assert (list(b.full._kept), list(b.sliding._kept)) == before
    b.drain()
    assert head.cached_tokens == 0  # by then its beginning was evicted for the one that ran


def test_what_others_hold_costs_no_room() -> None:
    """A request is admitted where only the part of it that nobody holds has room."""
    b = bench(prefix_cache=True, longest=40, window=40, budget=64)
    for number in (1, 2):
        b.add(sequence(number, (*tokens(28), number), seed=number))
        b.step()
    assert len(b.scheduler.running) == 2
    assert b.full.holds > b.full.count >= b.full.used
    b.drain()


# --- images ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("start", range(1, 9))
def test_another_image_with_equal_ids_is_no_hit(start: int) -> None:
    """Soft tokens are all the same; what counts is the image."""
    b, ids = bench(prefix_cache=True, more=40), (1,) * 20
    b.run(sequence(1, ids, images={start: 1}))
    assert cached(b, sequence(2, ids, images={start: 2})) == start // 4 * 4
    assert cached(b, sequence(3, ids, images={start: 1})) == 16


def test_an_image_in_the_pages_is_not_encoded() -> None:
    """A hit that covers an image leaves nothing of it to the step."""
    b, ids = bench(prefix_cache=True, more=40), tokens(20)
    b.run(sequence(1, ids, images={3: 1}))
    b.add(sequence(2, ids, images={3: 1}))
    flat = flatten(b.scheduler.schedule(), (), b.limits, None)  # it would refuse to place an image
    assert not flat.has_images
    assert flat.positions == list(range(16, 20))


def test_a_hit_may_end_inside_an_image() -> None:
    """Only what is left of the image is computed, as a part of the whole, and in one piece."""
    b = bench(prefix_cache=True, budget=2, more=40)
    b.run(sequence(1, tokens(20), images={5: 1}))
    b.add(sequence(2, (*tokens(10), *tokens(10, seed=1)), images={5: 1}))
    (chunk,) = b.step()
    assert (chunk.start, chunk.end) == (8, 10)
    b.drain()


def test_what_is_left_of_images_counts_whole() -> None:
    """A step does not begin with the ends of more images than it could hold whole."""
    b = bench(prefix_cache=True, budget=12, sequences=8, more=200)
    b.run(sequence(0, tokens(20), images={5: 1}))
    for number in range(1, 6):
        b.add(sequence(number, (*tokens(10), *tokens(1, seed=number)), images={5: 1}))
    assert [[chunk.count for chunk in b.step()] for _ in range(3)] == [[3, 3], [1, 1, 3], [1, 1, 1, 3]]
    b.drain()


# --- books ----------------------------------------------------------------------------------------------------------


def test_counts() -> None:
    """Each prompt counts once, with what it found when it was first admitted, and never more than the prompt."""
    b = bench(prefix_cache=True)
    first = b.run(sequence(1, tokens(9), say=8))
    resumed = sequence(2, tokens(9), say=8, generated=tuple(first.tokens[9:15]))
    assert cached(b, resumed) == 9
    assert (b.scheduler.prompt_tokens, b.scheduler.cached_tokens) == (18, 9)


def test_forgetting() -> None:
    """After it nothing is found, and nothing is counted."""
    b = bench(prefix_cache=True)
    b.run(sequence(1, tokens(20)))
    b.scheduler.forget_prefixes()
    b.audit()
    assert (b.scheduler.prompt_tokens, b.scheduler.cached_tokens) == (0, 0)
    assert cached(b, sequence(2, tokens(20))) == 0


def test_switched_off() -> None:
    """Without the cache nothing is ever found, and prompts are counted all the same."""
    b = bench(prefix_cache=False)
    b.run(sequence(1, tokens(20)))
    assert cached(b, sequence(2, tokens(20))) == 0
    assert (b.scheduler.prompt_tokens, b.scheduler.cached_tokens) == (40, 0)


@pytest.mark.parametrize(("full", "sliding"), [(True, False), (False, True)])
def test_one_kind_of_layers(full: bool, sliding: bool) -> None:
    """A network all of whose layers see everything, or only a window, has one pool to find pages in."""
    b = bench(prefix_cache=True, full_layers=full, sliding_layers=sliding, more=40)
    b.run(sequence(1, tokens(30)))
    assert cached(b, sequence(2, tokens(30))) == 28
