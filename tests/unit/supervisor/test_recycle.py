"""When a worker is renewed, and whose turn it is."""

from __future__ import annotations

import datetime
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from gemmad.config.schema import RecycleSection
from gemmad.generation import EngineLoad
from gemmad.supervisor.recycle import (
    FRESH_SECONDS,
    GROWTH_SECONDS,
    Candidate,
    Reason,
    Tenure,
    Why,
    choose,
    due_in_seconds,
    failed_pause_seconds,
    growth_pause_seconds,
    growths_after,
    next_moment,
    reason_to_renew,
)

DAY = 86400.0
HOUR = 3600.0
NOON = 1_800_000_000.0
UTC = datetime.UTC


class SummerTime(datetime.tzinfo):
    """A zone whose clocks are put forward on 29 March at two and back on 25 October at three, as Berlin's in 2026."""

    def __init__(self, standard_hours: float, forward_hours: float) -> None:
        self.standard = datetime.timedelta(hours=standard_hours)
        self.forward = datetime.timedelta(hours=forward_hours)

    def utcoffset(self, when: datetime.datetime | None) -> datetime.timedelta:
        return self.standard + self.dst(when)

    def dst(self, when: datetime.datetime | None) -> datetime.timedelta:
        assert when is not None
        shown = when.replace(tzinfo=None)
        begin, end = datetime.datetime(when.year, 3, 29, 2), datetime.datetime(when.year, 10, 25, 3)
        if begin <= shown < begin + self.forward:  # skipped: of the time before for fold 0 (PEP 495)
            summer = bool(when.fold)
        elif end - self.forward <= shown < end:  # shown twice: first in summer
            summer = not when.fold
        else:
            summer = begin <= shown < end
        return self.forward if summer else datetime.timedelta(0)

    def fromutc(self, when: datetime.datetime) -> datetime.datetime:
        utc = when.replace(tzinfo=None)
        begin = datetime.datetime(when.year, 3, 29, 2) - self.standard
        end = datetime.datetime(when.year, 10, 25, 3) - self.standard - self.forward
        if begin <= utc < end:
            return (utc + self.standard + self.forward).replace(tzinfo=self)
        return (utc + self.standard).replace(tzinfo=self, fold=int(end <= utc < end + self.forward))

    def tzname(self, when: datetime.datetime | None) -> str:
        return "test"


BERLIN = SummerTime(1, 1)
ZONES = [UTC, BERLIN, SummerTime(-5, 1), SummerTime(10.5, 0.5), datetime.timezone(datetime.timedelta(hours=5.5))]
GIB = 1 << 30


def tenure(*, age: float = 0.0, chance: float = 0.0, **fields: Any) -> Tenure:
    return Tenure(age_seconds=age, chance=chance, **fields)


def why(life: Tenure, *, wall: float = NOON, **section: Any) -> Why | None:
    reason = reason_to_renew(life, RecycleSection(**section), wall=wall, zone=UTC)
    return reason.why if reason is not None else None


def local(text: str, zone: datetime.tzinfo = BERLIN, *, fold: int = 0) -> float:
    return datetime.datetime.fromisoformat(text).replace(tzinfo=zone, fold=fold).timestamp()


def test_nothing_is_renewed_without_a_reason() -> None:
    """As the settings come, a worker that does not grow lives for ever."""
    load = EngineLoad(device_bytes=GIB, device_allocated_bytes=GIB // 2, host_rss_bytes=GIB)
    assert why(tenure(age=1000 * DAY, requests=10**9, baseline_bytes=GIB, load=load)) is None
    assert due_in_seconds(tenure(age=1.0), RecycleSection(), wall=NOON) is None


def test_age() -> None:
    """A life is over at its age, or a little before, spread by chance."""
    assert why(tenure(age=DAY - 1), every=DAY) is None
    assert why(tenure(age=DAY), every=DAY) is Why.AGE
    assert why(tenure(age=0.9 * DAY, chance=0.999999), every=DAY, jitter=0.1) is None
    assert why(tenure(age=0.91 * DAY, chance=0.999999), every=DAY, jitter=0.1) is Why.AGE
    due = due_in_seconds(tenure(age=1000.0, chance=0.5), RecycleSection(every=DAY, jitter=0.2), wall=NOON)
    assert due is not None
    assert due[0] == pytest.approx(0.9 * DAY - 1000.0)


def test_time_of_day() -> None:
    """A life that was there before the time is over after it, spread by chance; one that is young then is not."""
    four = local("2026-07-01T04:00", UTC)
    for age, wall, expected in [
        (DAY / 2, four - 1, None),
        (DAY / 2, four, Why.TIME),
        (DAY / 2, four + HOUR, Why.TIME),
        (FRESH_SECONDS - 1, four, None),
        (HOUR, four + HOUR, None),
        (HOUR + FRESH_SECONDS + 1, four + HOUR, Why.TIME),
    ]:
        assert why(tenure(age=age), wall=wall, at=["4:00", "16:00"]) is expected
    late = tenure(age=DAY / 2, chance=0.5)
    assert why(late, wall=four + 179, at=["04:00"], jitter=0.1) is None
    assert why(late, wall=four + 181, at=["04:00"], jitter=0.1) is Why.TIME


def test_a_clock_that_is_set_does_not_renew() -> None:
    """Setting the wall clock right moves the time of day with it, forwards and backwards."""
    four = local("2026-07-01T04:00", UTC)
    young = tenure(age=HOUR)
    assert why(young, wall=four - 30 * DAY - 2 * HOUR, at=["04:00"]) is None
    assert why(young, wall=four + 12 * HOUR, at=["04:00"]) is None
    due = due_in_seconds(young, RecycleSection(at=("04:00",), jitter=0), wall=four - 2 * HOUR, zone=UTC)
    assert due is not None
    assert due[0] == 2 * HOUR


@pytest.mark.parametrize(
    ("after", "time", "moment"),
    [
        ("2026-03-28T12:00", "02:30", "2026-03-29T03:30"),  # the clock skips it
        ("2026-03-28T12:00", "03:00", "2026-03-29T03:00"),
        ("2026-10-24T12:00", "02:30", "2026-10-25T02:30"),  # the clock shows it twice
        ("2026-10-24T12:00", "03:00", "2026-10-25T03:00"),
        ("2026-12-31T23:59", "00:00", "2027-01-01T00:00"),
        ("2026-07-01T04:00", "04:00", "2026-07-02T04:00"),
    ],
)
def test_moments_when_the_clocks_change(after: str, time: str, moment: str) -> None:
    """A skipped time comes as much later, a repeated one counts once, and a time that is now is the next day's."""
    assert next_moment([time], after=local(after), zone=BERLIN) == local(moment)


def test_a_repeated_time_counts_once() -> None:
    """In the second half of the long night the time has passed."""
    second = local("2026-10-25T02:30", fold=1)
    assert next_moment(["02:30"], after=second - 1, zone=BERLIN) == local("2026-10-26T02:30")


@given(
    st.lists(st.times().map("{:%H:%M}".format), min_size=1, max_size=4),
    st.floats(0, 4e9),
    st.sampled_from(ZONES),
)
def test_every_day_has_its_moments(times: list[str], after: float, zone: datetime.tzinfo) -> None:
    """Whenever and wherever one asks, the next moment is later, within a long day, and on the clock or just skipped."""
    moment = next_moment(times, after=after, zone=zone)
    assert 0 < moment - after <= 25 * HOUR
    shown = f"{datetime.datetime.fromtimestamp(moment, zone):%H:%M}"
    if shown not in times:
        before = datetime.datetime.fromtimestamp(moment - 2 * HOUR, zone).utcoffset()
        assert before != datetime.datetime.fromtimestamp(moment, zone).utcoffset()


@given(st.lists(st.times().map("{:%H:%M}".format), min_size=1, max_size=3), st.integers(0, 300), st.sampled_from(ZONES))
def test_no_day_is_missed_and_none_counted_twice(times: list[str], day: int, zone: datetime.tzinfo) -> None:
    """From moment to moment through twenty days there are as many moments as times a day."""
    began = datetime.datetime(2026, 1, 1, tzinfo=zone) + datetime.timedelta(day)
    end = began + datetime.timedelta(20)
    moments, now = [], began.timestamp() - 1
    while (now := next_moment(times, after=now, zone=zone)) < end.timestamp():
        moments.append(now)
    skipping = {began.utcoffset(), end.utcoffset()}
    assume(len(skipping) == 1)  # else a moment near midnight may be put beyond either end
    assert len(moments) == 20 * len(set(times))


def test_requests() -> None:
    """After so many requests a life is over."""
    assert why(tenure(requests=99), after_requests=100) is None
    assert why(tenure(requests=100), after_requests=100) is Why.REQUESTS


@pytest.mark.parametrize(
    ("load", "section", "expected"),
    [
        (EngineLoad(device_bytes=3 * GIB), {"vram_drift": "1GiB"}, None),
        (EngineLoad(device_bytes=3 * GIB + 1), {"vram_drift": "1GiB"}, Why.DRIFT),
        (EngineLoad(device_bytes=4 * GIB, device_allocated_bytes=3 * GIB), {"fragmentation": 0.25}, None),
        (EngineLoad(device_bytes=4 * GIB, device_allocated_bytes=2 * GIB), {"fragmentation": 0.25}, Why.FRAGMENTATION),
        (EngineLoad(), {"fragmentation": 0.25, "vram_drift": 1}, None),
        (EngineLoad(host_rss_bytes=GIB), {"host_rss": "1GiB"}, None),
        (EngineLoad(host_rss_bytes=GIB + 1), {"host_rss": "1GiB"}, Why.RSS),
    ],
)
def test_growth(load: EngineLoad, section: dict[str, Any], expected: Why | None) -> None:
    """Memory beyond the bounds ends a life, once it is old enough; without numbers there is no growth."""
    section = {"vram_drift": None} | section
    grown = tenure(age=GROWTH_SECONDS, baseline_bytes=2 * GIB, load=load)
    assert why(grown, **section) is expected
    assert why(tenure(age=GROWTH_SECONDS - 1, baseline_bytes=2 * GIB, load=load), **section) is None
    assert why(tenure(age=GROWTH_SECONDS), **section) is None


@given(st.integers(0, 100))
def test_growth_is_not_chased(growths: int) -> None:
    """Each renewal for growth in a row doubles the age at which the next one may come, up to days, not for ever."""
    life = tenure(age=growth_pause_seconds(growths), growths=growths)
    assert GROWTH_SECONDS <= life.age_seconds <= 2 * DAY
    assert growths_after(life, Why.DRIFT) == growths + 1
    assert growths_after(life, Why.AGE) == 0
    assert growths_after(tenure(age=2 * life.age_seconds, growths=growths), Why.RSS) == 1
    assert growth_pause_seconds(growths + 1) in {life.age_seconds, 2 * life.age_seconds}


def test_a_leak_in_every_life_costs_ever_less() -> None:
    """A worker that grows at once in each life is renewed a handful of times in the first day, then every other day."""
    now, growths, renewals = 0.0, 0, 0
    while now < 7 * DAY:
        life = tenure(age=growth_pause_seconds(growths), growths=growths)
        now, growths, renewals = now + life.age_seconds, growths_after(life, Why.DRIFT), renewals + 1
    assert renewals <= 12


def test_a_failed_renewal_is_tried_again_later_and_later() -> None:
    """A minute after the first failure, an hour after many."""
    pauses = [failed_pause_seconds(failures) for failures in range(1, 20)]
    assert pauses[:3] == [60.0, 120.0, 240.0]
    assert pauses == sorted(pauses)
    assert pauses[-1] == 3840.0


AGE = Reason(Why.AGE, "it is old")
ASKED = Reason(Why.ASKED, "it was asked for")

candidates = st.lists(
    st.builds(
        Candidate,
        name=st.just("gpu"),
        ready=st.booleans(),
        coming=st.booleans(),
        reason=st.sampled_from([None, AGE, ASKED]),
        beside=st.booleans(),
        renewed_at=st.sampled_from([0.0, 1.0, 2.0]),
    ),
    max_size=5,
)


@given(candidates)
def test_the_last_ready_worker_waits_for_the_others(among: list[Candidate]) -> None:
    """Who is chosen is ready and has a reason; if nobody else is ready, nobody else is coming or its next life fits
    beside it. Who was asked for goes first, then whose last time is longest ago."""
    chosen = choose(among)
    able = [
        each
        for each in among
        if each.ready
        and each.reason is not None
        and (
            each.beside
            or sum(other.ready for other in among) > 1
            or not any(other.coming for other in among if other is not each)
        )
    ]
    if chosen is None:
        assert able == []
        return
    assert any(chosen is each for each in able)
    if any(each.reason is ASKED for each in able):
        assert chosen.reason is ASKED
    assert all(chosen.renewed_at <= each.renewed_at for each in able if each.reason is chosen.reason)
