"""Who is told when: levels with hysteresis, and no flood."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gemmad.config.schema import MonitorSection
from gemmad.monitor.measures import Measure
from gemmad.monitor.thresholds import (
    PAUSE_SECONDS,
    UNMEASURED_SECONDS,
    Change,
    Held,
    Key,
    alerts,
    judge,
    level_of,
)

SECTION = MonitorSection()
STEP = 10.0

shares = st.floats(0, 1.2)
histories = st.lists(
    st.one_of(shares, st.sampled_from([0.0, 0.74, 0.79, 0.8, 0.91, 0.96, 1.0]), st.none()), max_size=150
)


def measure(share: float, about: str = "kv", worker: str | None = "gpu0") -> Measure:
    return Measure(about=about, worker=worker, share=share, words=f"{share:.0%} of it", action="do something")


def told(history: Sequence[float | None], *, section: MonitorSection = SECTION) -> list[tuple[float, Change]]:
    """What is told of one memory that is measured each `STEP` seconds, None being not measured; with when."""
    held: dict[Key, Held] = {}
    found = []
    for index, share in enumerate(history):
        measured = () if share is None else (measure(share),)
        held, changes = judge(held, measured, section=section, now=STEP * index)
        found += [(STEP * index, change) for change in changes]
    return found


def events(history: Sequence[float | None]) -> list[tuple[str, str]]:
    return [(change.event, change.alert.level) for _, change in told(history)]


def test_an_alert_begins_rises_and_ends() -> None:
    """Each is told once, with what was measured then, and how long it has lasted."""
    changes = told([0.5, 0.85, 0.9, 0.97, 0.99, 0.85, 0.7, 0.7])
    assert [(at, change.event, change.alert.level) for at, change in changes] == [
        (10.0, "begins", "warning"),
        (30.0, "rises", "critical"),
        (60.0, "ends", "warning"),
    ]
    _, risen, over = (change.alert for _, change in changes)
    assert (risen.share, risen.words, risen.action, risen.since_seconds) == (0.97, "97% of it", "do something", 20.0)
    assert (over.share, over.since_seconds) == (0.7, 50.0)


def test_a_little_less_is_not_over() -> None:
    """Between a threshold and `hysteresis` below it nothing changes."""
    assert events([0.81, 0.76, 0.81, 0.76, 0.81, 0.76]) == [("begins", "warning")]
    assert events([0.96, 0.91, 0.96, 0.91]) == [("begins", "critical")]
    assert events([0.81, 0.75]) == [("begins", "warning"), ("ends", "warning")]


def test_flapping_is_told_once_in_a_pause() -> None:
    """One that comes and goes with every look is told again only after the pause."""
    looks = int(PAUSE_SECONDS / STEP)
    flapping = [0.9, 0.1] * (looks // 2)
    assert events(flapping) == [("begins", "warning"), ("ends", "warning")]
    assert events(flapping * 3) == [("begins", "warning"), ("ends", "warning")] * 3


def test_worse_is_told_at_once() -> None:
    """That it is critical does not wait for the pause after the warning."""
    assert events([0.85, 0.2, 0.97]) == [("begins", "warning"), ("ends", "warning"), ("begins", "critical")]


def test_it_may_rise_again() -> None:
    """After an hour at the lower level a new rise is news."""
    assert events([0.97, *[0.85] * 360, 0.97]) == [("begins", "critical"), ("rises", "critical")]


def test_what_is_not_measured_any_more_ends() -> None:
    """A worker that is renewed is not measured for a while, which is no change; one that stays away is calm."""
    short, long = int(UNMEASURED_SECONDS / STEP) - 1, int(UNMEASURED_SECONDS / STEP)
    assert events([0.9, *[None] * short, 0.9]) == [("begins", "warning")]
    assert events([0.9, *[None] * long]) == [("begins", "warning"), ("ends", "warning")]


def test_those_that_hold() -> None:
    """The worst comes first, each by its own key, also while nobody is told of it."""
    measured = (measure(0.81), measure(0.99, "vram"), measure(0.9, "host", None), measure(0.5, "drift"))
    held, changes = judge({}, measured, section=SECTION, now=0.0)
    assert len(changes) == 3
    assert [(each.about, each.worker, each.level) for each in alerts(held, now=5.0)] == [
        ("vram", "gpu0", "critical"),
        ("host", None, "warning"),
        ("kv", "gpu0", "warning"),
    ]
    assert {each.since_seconds for each in alerts(held, now=5.0)} == {5.0}
    held, _ = judge(held, (measure(0.1), measure(0.99, "vram")), section=SECTION, now=10.0)
    held, changes = judge(held, (measure(0.85), measure(0.99, "vram")), section=SECTION, now=20.0)
    assert changes == ()
    assert [each.about for each in alerts(held, now=20.0)] == ["vram", "host", "kv"]


def test_thresholds_are_live() -> None:
    """Other thresholds decide from the next look on; a critical one below the warning counts for both."""
    held, changes = judge({}, [measure(0.6)], section=SECTION, now=0.0)
    assert changes == ()
    held, changes = judge(held, [measure(0.6)], section=MonitorSection(warning=0.5), now=10.0)
    assert [change.event for change in changes] == ["begins"]
    assert level_of(0.6, None, section=MonitorSection(warning=0.9, critical=0.5)) == "critical"


# --- whatever is measured ---------------------------------------------------------------------------------------------


@given(histories)
def test_no_flood(history: list[float | None]) -> None:
    """Within any pause each level is told to begin once at most, and no more than five changes in all."""
    found = told(history)
    for at, _ in found:
        near = [change for other, change in found if at <= other < at + PAUSE_SECONDS]
        for level in ("warning", "critical"):
            assert sum(change.event != "ends" and change.alert.level == level for change in near) <= 1
        assert len(near) <= 5


@given(histories)
def test_a_story_that_makes_sense(history: list[float | None]) -> None:
    """What is told begins, may rise, and ends before it begins again."""
    follows = {None: {"begins"}, "begins": {"rises", "ends"}, "rises": {"rises", "ends"}, "ends": {"begins"}}
    said = [None, *(change.event for _, change in told(history))]
    assert all(after in follows[before] for before, after in itertools.pairwise(said))


@given(histories, st.floats(0.8, 1.2))
def test_what_stays_high_is_told(history: list[float | None], share: float) -> None:
    """However it flapped before, one that stays high is told as high in the end."""
    found = told([*history, *[share] * (int(PAUSE_SECONDS / STEP) + 2)])
    last = found[-1][1]
    assert last.event != "ends"
    assert last.alert.level == "critical" or share < SECTION.critical


@given(histories)
def test_what_stays_low_is_over(history: list[float | None]) -> None:
    """However it flapped before, one that stays low does not hold, is told to be over, and is forgotten."""
    held: dict[Key, Held] = {}
    now, told_last = 0.0, "ends"
    for share in [*history, *[0.1] * (int(PAUSE_SECONDS / STEP) + 2)]:
        now += STEP
        held, changes = judge(held, () if share is None else (measure(share),), section=SECTION, now=now)
        told_last = changes[-1].event if changes else told_last
    assert alerts(held, now=now) == ()
    assert told_last == "ends"
    assert held == {}


@given(shares, st.sampled_from([None, "warning", "critical"]))
def test_levels(share: float, before: str | None) -> None:
    """A share is at least at the level of its threshold, and never above the one it has by coming from above."""
    ranks = {None: 0, "warning": 1, "critical": 2}
    rising = level_of(share, None, section=SECTION)
    held = level_of(share, before, section=SECTION)  # type: ignore[arg-type]
    assert rising == ("critical" if share >= 0.95 else "warning" if share >= 0.8 else None)
    assert ranks[rising] <= ranks[held] <= max(ranks[rising], ranks[before])


@pytest.mark.parametrize("hysteresis", [0.0, 0.5])
def test_extreme_hysteresis(hysteresis: float) -> None:
    """None at all and a very wide one work, too."""
    section = MonitorSection(hysteresis=hysteresis)
    said = [change.event for _, change in told([0.8, 0.79, 0.8, 0.2], section=section)]
    assert said == ["begins", "ends"]
