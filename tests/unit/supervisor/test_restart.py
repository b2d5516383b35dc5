"""Pauses, budget and forgiveness."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gemmad.config.schema import WorkersSection
from gemmad.supervisor.restart import FaultKind, GiveUp, Record, Retry, decayed, judge, judge_exit

SECTION = WorkersSection()
HIGHEST = 1.0


def crash(record: Record, now: float, section: WorkersSection = SECTION) -> tuple[Record, Retry | GiveUp]:
    return judge(record, FaultKind.CRASH, now=now, section=section, chance=HIGHEST)


def test_the_pause_doubles() -> None:
    """Each crash in a row doubles the pause before the next life."""
    record, pauses = Record(), []
    for _ in range(SECTION.restart_budget - 1):
        record, decision = crash(record, now=100.0)
        assert isinstance(decision, Retry)
        pauses.append(decision.pause_seconds)
    assert pauses == [0.5, 1.0, 2.0, 4.0]


def test_the_budget_ends_in_failed_with_a_growing_pause() -> None:
    """A worker that goes on crashing is given up, for longer each time, but never for ever."""
    record = Record()
    for _ in range(SECTION.restart_budget - 1):
        record, decision = crash(record, now=0.0)
    pauses = []
    for _ in range(8):
        record, decision = crash(record, now=0.0)
        assert isinstance(decision, GiveUp)
        pauses.append(decision.pause_seconds)
    assert pauses == [60.0, 120.0, 240.0, 480.0, 960.0, 960.0, 960.0, 960.0]


def test_rare_crashes_are_forgiven() -> None:
    """One crash a day never adds up."""
    record, now = Record(), 0.0
    for _ in range(100):
        now += 86400.0
        record, decision = crash(record, now)
        assert isinstance(decision, Retry)
        assert decision.pause_seconds == pytest.approx(0.5)


def test_a_long_good_life_ends_the_surrenders() -> None:
    """Who was given up and then worked for long begins with short pauses again."""
    record = Record()
    for _ in range(10):
        record, _ = crash(record, now=0.0)
    record, decision = crash(record, now=7 * 86400.0)
    assert isinstance(decision, Retry)
    assert decision.pause_seconds == pytest.approx(0.5)
    assert record.surrenders == 0


def test_settings_are_not_retried() -> None:
    """Exit 3 is given up at once and has no next time."""
    _, decision = judge(Record(), FaultKind.SETTINGS, now=0.0, section=SECTION, chance=0.0)
    assert decision == GiveUp(None)


def test_a_lost_device_gets_the_long_pause() -> None:
    """Exit 4 waits as long as a pause may be, from the first time on."""
    _, decision = judge(Record(), FaultKind.DEVICE_LOST, now=0.0, section=SECTION, chance=HIGHEST)
    assert decision == Retry(60.0)


@given(
    st.lists(
        st.tuples(st.floats(0, 1e6), st.floats(0, 0.999), st.sampled_from([FaultKind.CRASH, FaultKind.DEVICE_LOST])),
        max_size=60,
    ),
    st.integers(1, 2000),
)
def test_every_fault_has_a_bounded_pause(faults: list[tuple[float, float, FaultKind]], budget: int) -> None:
    """Whatever happens when, a next life follows after a pause within the limits."""
    section = WorkersSection(restart_budget=budget)
    record, now = Record(), 0.0
    for seconds, chance, kind in faults:
        now += seconds
        record, decision = judge(record, kind, now=now, section=section, chance=chance)
        assert decision.pause_seconds is not None
        longest = section.restart_pause_limit * (1 if isinstance(decision, Retry) else 16)
        assert 0 < decision.pause_seconds <= longest
        assert decayed(record, now=now + 1, half_life_seconds=600) < record.weight


@pytest.mark.parametrize(
    ("code", "asked", "draining", "doom", "kind"),
    [
        (0, True, False, None, None),
        (-9, True, False, FaultKind.CRASH, None),
        (0, False, True, None, None),
        (1, False, True, None, FaultKind.CRASH),
        (0, False, False, None, FaultKind.CRASH),
        (3, False, False, None, FaultKind.SETTINGS),
        (4, False, True, FaultKind.CRASH, FaultKind.DEVICE_LOST),
        (-9, False, False, FaultKind.DEVICE_LOST, FaultKind.DEVICE_LOST),
        (137, False, False, None, FaultKind.CRASH),
    ],
)
def test_what_an_exit_means(
    code: int, asked: bool, draining: bool, doom: FaultKind | None, kind: FaultKind | None
) -> None:
    """An exit is judged by what the worker was told, its code, and what was known before."""
    assert judge_exit(code, asked=asked, draining=draining, doom=doom) is kind
