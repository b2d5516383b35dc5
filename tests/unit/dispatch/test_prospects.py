"""How long who is refused is told to wait."""

from __future__ import annotations

import pytest

from gemmad.dispatch.prospects import Prospects, ServiceTime, clamp_retry, turn_in_seconds


def test_retry_after_is_the_measured_turn() -> None:
    """Forty requests of 20 s at once end two a second, so the turn after nineteen others comes in ten seconds."""
    service = ServiceTime().after(20.0)
    assert turn_in_seconds(service, turns_before=19, running=40) == pytest.approx(10.0)


def test_retry_after_stays_within_what_clients_honour() -> None:
    """At least a second, at most two minutes."""
    assert clamp_retry(0.0) == 1.0
    assert clamp_retry(50.0) == 50.0
    assert clamp_retry(5000.0) == 120.0


def test_service_time_follows_what_is_measured() -> None:
    """The first measurement replaces the guess, later ones move the mean."""
    service = ServiceTime()
    assert not service.measured
    for _ in range(100):
        service = service.after(2.0)
    assert service.seconds == pytest.approx(2.0)
    assert 2.0 < service.after(4.0).seconds < 4.0


def test_while_nobody_runs() -> None:
    """Without a worker the wait is until one is ready, and then as fast as it ever went."""
    prospects = Prospects()
    prospects.note_finished(8.0)
    prospects.note_running(16)
    prospects.note_running(3)
    assert prospects.queue_full("full", turns_before=31, running=16).retry_after_seconds == pytest.approx(16.0)
    prospects.wait_seconds = 7.0
    assert prospects.queue_full("full", turns_before=31, running=0).retry_after_seconds == pytest.approx(23.0)
    assert prospects.unavailable("loading").retry_after_seconds == 7.0
