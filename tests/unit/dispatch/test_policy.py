"""Who gets a request, and how long a refused one is told to wait."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gemmad.dispatch.policy import (
    ServiceTime,
    Standing,
    TokenRate,
    choose,
    clamp_retry,
    may_wait,
    places,
    turn_in_seconds,
)
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


def standing(worker: str, sequences: int = 0, tokens: int = 0, held: int = 0, size: int = 16) -> Standing[str]:
    return Standing(worker=worker, capacity=capacity(size), sequences=sequences, tokens=tokens, held_tokens=held)


def test_the_least_busy_gets_it() -> None:
    """Fewer requests win, then fewer tokens, then the first."""
    assert choose([standing("a", 3), standing("b", 2)], prompt_tokens=10) == "b"
    assert choose([standing("a", 2, 900), standing("b", 2, 100)], prompt_tokens=10) == "b"
    assert choose([standing("a"), standing("b")], prompt_tokens=10) == "a"


def test_work_is_measured_against_size() -> None:
    """A worker with four times the room takes four times the requests."""
    assert choose([standing("small", 2, size=8), standing("large", 6, size=32)], prompt_tokens=10) == "large"


def test_a_held_prefix_is_work_saved() -> None:
    """Between equals, the one that holds the prompt already; not one that is much busier."""
    assert choose([standing("a"), standing("b", held=4000)], prompt_tokens=4000) == "b"
    assert choose([standing("a"), standing("b", 12, 8000, held=4000)], prompt_tokens=4000) == "a"


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
    """One more than may wait is refused."""
    assert may_wait(waiting=9, max_waiting=10)
    assert not may_wait(waiting=10, max_waiting=10)
    assert not may_wait(waiting=0, max_waiting=0)


def test_retry_after_is_the_measured_turn() -> None:
    """Forty requests of 20 s at once end two a second, so the turn after nineteen others comes in ten seconds."""
    service = ServiceTime().after(20.0)
    assert turn_in_seconds(service, waiting=19, running=40) == pytest.approx(10.0)


def test_retry_after_stays_within_what_clients_honour() -> None:
    """At least a second, at most two minutes."""
    service = ServiceTime().after(20.0)
    assert turn_in_seconds(service, waiting=5000, running=1) == 120.0
    assert turn_in_seconds(service, waiting=0, running=1000) == 1.0
    assert clamp_retry(0.0) == 1.0


def test_service_time_follows_what_is_measured() -> None:
    """The first measurement replaces the guess, later ones move the mean."""
    service = ServiceTime()
    assert not service.measured
    for _ in range(100):
        service = service.after(2.0)
    assert service.seconds == pytest.approx(2.0)
    assert 2.0 < service.after(4.0).seconds < 4.0


def test_token_rate_follows_the_present() -> None:
    """A steady stream is measured as what it is, and fades when it ends."""
    rate, now = TokenRate(), 0.0
    for _ in range(1000):
        now += 0.1
        rate = rate.after(10, now=now)
    assert rate.per_second(now) == pytest.approx(100, rel=0.02)
    assert rate.per_second(now + 60) < 1
