"""Who gets a request, and who may wait."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gemmad.dispatch.policy import SEQUENCE_TOKENS, Standing, choose, may_wait, places
from gemmad.generation import Capacity


def capacity(max_sequences: int = 16, pages: int = 1000) -> Capacity:
    return Capacity(
        max_context=8192,
        max_sequences=max_sequences,
        max_step_tokens=2048,
        page_tokens=16,
        full_pages=pages,
        sliding_pages=pages,
    )


def standing(
    worker: str, sequences: int = 0, tokens: int = 0, *, held: int = 0, unread: int = 0, size: int = 16
) -> Standing[str]:
    return Standing(
        worker=worker,
        capacity=capacity(size),
        sequences=sequences,
        tokens=tokens,
        held_tokens=held,
        unread_tokens=unread,
    )


def test_the_least_busy_gets_it() -> None:
    """Fewer requests win, then fewer tokens, then the first."""
    assert choose([standing("a", 3), standing("b", 2)], prompt_tokens=10) == "b"
    assert choose([standing("a", 2, 900), standing("b", 2, 100)], prompt_tokens=10) == "b"
    assert choose([standing("a"), standing("b")], prompt_tokens=10) == "a"


def test_what_is_not_read_yet_is_work() -> None:
    """A worker that has a long prompt before it is busier than one with a few short replies."""
    assert choose([standing("a", 1, 8000, unread=8000), standing("b", 5, 8000)], prompt_tokens=10) == "b"


def test_work_is_measured_against_size() -> None:
    """A worker with four times the room takes four times the requests."""
    assert choose([standing("small", 2, size=8), standing("large", 6, size=32)], prompt_tokens=10) == "large"


def test_a_held_prefix_is_work_saved() -> None:
    """A conversation goes back to the one that holds it, unless that one is much busier."""
    assert choose([standing("a"), standing("b", held=4000)], prompt_tokens=4000) == "b"
    assert choose([standing("a"), standing("b", 5, 4000, held=4000)], prompt_tokens=4000) == "b"
    assert choose([standing("a"), standing("b", 12, 8000, held=4000)], prompt_tokens=4000) == "a"


def test_the_bound_of_affinity() -> None:
    """A sequence more is worth the computing of SEQUENCE_TOKENS."""
    for more in (1, 4, 9):
        busier = standing("b", more, held=SEQUENCE_TOKENS * more - 100)
        assert choose([standing("a"), busier], prompt_tokens=6000) == "a"
        busier = standing("b", more, held=SEQUENCE_TOKENS * more + 100)
        assert choose([standing("a"), busier], prompt_tokens=6000) == "b"


def test_a_prefix_is_not_worth_a_wait() -> None:
    """As long as another has a sequence and pages free, nobody is put where it would wait for them."""
    free = standing("a", 15, 200)
    assert choose([free, standing("b", 16, 100, held=8000)], prompt_tokens=8000) == "a"
    assert choose([free, standing("b", 1, 15_990, held=7950)], prompt_tokens=8000) == "a"
    assert choose([standing("a", 16, 200), standing("b", 16, 200, held=8000)], prompt_tokens=8000) == "b"


def test_full_workers_let_it_wait() -> None:
    """A worker is handed its batch and a small backlog, and no more."""
    full = places(capacity(16))
    assert full == 18
    assert choose([standing("a", full)], prompt_tokens=1) is None
    assert choose([standing("a", full - 1)], prompt_tokens=1) == "a"
    assert choose([], prompt_tokens=1) is None


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 10**6), st.integers(1, 64)), max_size=8))
def test_whoever_is_chosen_has_room(loads: list[tuple[int, int, int]]) -> None:
    """Nobody is chosen beyond its places, and somebody is as long as there is one."""
    standings = [
        Standing(worker=number, capacity=capacity(size), sequences=sequences, tokens=tokens)
        for number, (sequences, tokens, size) in enumerate(loads)
    ]
    chosen = choose(standings, prompt_tokens=100)
    free = [each.worker for each in standings if each.sequences < places(each.capacity)]
    assert (chosen in free) if free else (chosen is None)


def test_the_queue_has_a_bound() -> None:
    """One more than may wait is refused, and several are refused together."""
    assert may_wait(waiting=9, waiting_of_key=0, wanted=1, max_waiting=10)
    assert not may_wait(waiting=10, waiting_of_key=0, wanted=1, max_waiting=10)
    assert not may_wait(waiting=9, waiting_of_key=0, wanted=2, max_waiting=10)
    assert not may_wait(waiting=0, waiting_of_key=0, wanted=1, max_waiting=0)
    assert may_wait(waiting=50, waiting_of_key=50, wanted=0, max_waiting=10)


@given(st.lists(st.integers(0, 3), max_size=300), st.integers(4, 100))
def test_somebody_new_finds_a_place(arrivals: list[int], max_waiting: int) -> None:
    """Four keys that all push as hard as they can never fill the queue; one alone fills three quarters of it."""
    waiting: dict[int, int] = {}
    for key in arrivals:
        total = sum(waiting.values())
        if may_wait(waiting=total, waiting_of_key=waiting.get(key, 0), wanted=1, max_waiting=max_waiting):
            waiting[key] = waiting.get(key, 0) + 1
    if max_waiting >= 16:
        assert may_wait(waiting=sum(waiting.values()), waiting_of_key=0, wanted=1, max_waiting=max_waiting)
    assert max(waiting.values(), default=0) <= max_waiting * 0.75 + 1


def test_a_small_queue_is_no_smaller() -> None:
    """Where there are few places, one key may have them all but one."""
    for max_waiting, most in ((1, 1), (2, 2), (3, 3), (4, 3), (1024, 768)):
        fits = sum(
            may_wait(waiting=count, waiting_of_key=count, wanted=1, max_waiting=max_waiting)
            for count in range(max_waiting)
        )
        assert fits == most
