"""When a memory is worth a word: pure.

A memory is calm, at `warning`, or at `critical`. It rises as soon as its share reaches a threshold, and falls only once
the share is `hysteresis` below it. What holds is always up to date; what is *told* is bounded: that a level is reached
is told at most once in `PAUSE_SECONDS`, and an end only of what had been told to begin. So of one memory at most five
changes are told in any such pause, however it flaps, and one that stays high is told in the end.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Literal

from msgspec import Struct, field, structs

from gemmad.config.schema import MonitorSection
from gemmad.monitor.alert import Alert
from gemmad.monitor.measures import Measure

Level = Literal["warning", "critical"]
Event = Literal["begins", "rises", "ends"]
Key = tuple[str, str | None]
"""What it is about, and whose it is."""

PAUSE_SECONDS = 300.0
UNMEASURED_SECONDS = 60.0
"""A memory that is not measured for so long (its worker is gone or loads) is calm."""

_RANKS: Mapping[Level | None, int] = {None: 0, "warning": 1, "critical": 2}


class Held(Struct, frozen=True, kw_only=True):
    """What is remembered of one memory. Times are on one monotonic clock."""

    level: Level | None
    measure: Measure
    measured_at: float
    since: float
    """When it left calm; meaningless while it is calm."""
    told: Level | None = None
    """The level that was told last and has not been told to have ended."""
    told_at: Mapping[Level, float] = field(default_factory=dict)
    """When each level was told to begin, for the last time."""


class Change(Struct, frozen=True, kw_only=True):
    """What somebody is to be told."""

    event: Event
    alert: Alert
    """As of the change; of one that ends, as it was told, with the share of now."""


def judge(
    held: Mapping[Key, Held], measured: Iterable[Measure], *, section: MonitorSection, now: float
) -> tuple[dict[Key, Held], tuple[Change, ...]]:
    """What is held from now on, and what to tell. `held` is what the call before returned, at first nothing."""
    after: dict[Key, Held] = {}
    changes: list[Change] = []
    fresh = {(each.about, each.worker): each for each in measured}
    for key in (*held, *(key for key in fresh if key not in held)):
        moved = _moved(held.get(key), fresh.get(key), section=section, now=now)
        if moved is None:
            continue
        told, change = _told(moved, now=now)
        if change is not None:
            changes.append(change)
        if not _is_forgotten(told, now=now):
            after[key] = told
    return after, tuple(changes)


def alerts(held: Mapping[Key, Held], *, now: float) -> tuple[Alert, ...]:
    """Those that hold, the worst first."""
    found = [_alert(each, each.level, now=now) for each in held.values() if each.level is not None]
    return tuple(sorted(found, key=lambda alert: (-_RANKS[alert.level], -alert.share)))  # type: ignore[index]


def level_of(share: float, before: Level | None, *, section: MonitorSection) -> Level | None:
    """The level that this share is at, coming from the one before."""
    warning = min(section.warning, section.critical)
    if share >= section.critical or (before == "critical" and share > section.critical - section.hysteresis):
        return "critical"
    if share >= warning or (before is not None and share > warning - section.hysteresis):
        return "warning"
    return None


def _moved(held: Held | None, measure: Measure | None, *, section: MonitorSection, now: float) -> Held | None:
    """At the level that this measure takes it to."""
    if measure is None:
        assert held is not None
        is_gone = now - held.measured_at >= UNMEASURED_SECONDS
        return structs.replace(held, level=None) if is_gone else held
    before = None if held is None else held.level
    level = level_of(measure.share, before, section=section)
    if held is None:
        return None if level is None else Held(level=level, measure=measure, measured_at=now, since=now)
    since = now if before is None else held.since
    return structs.replace(held, level=level, measure=measure, measured_at=now, since=since)


def _told(held: Held, *, now: float) -> tuple[Held, Change | None]:
    """With what is to be told of it noted as told."""
    if held.level is None:
        if held.told is None:
            return held, None
        ended = Change(event="ends", alert=_alert(held, held.told, now=now))
        return structs.replace(held, told=None), ended
    if _RANKS[held.level] < _RANKS[held.told]:
        held = structs.replace(held, told=held.level)  # it may rise again
    level = held.level
    assert level is not None
    if level == held.told or now < held.told_at.get(level, -math.inf) + PAUSE_SECONDS:
        return held, None
    event: Event = "begins" if held.told is None else "rises"
    passed: tuple[Level, ...] = ("warning",) if level == "warning" else ("warning", "critical")
    told_at = {**held.told_at, **dict.fromkeys(passed, now)}
    change = Change(event=event, alert=_alert(held, level, now=now))
    return structs.replace(held, told=level, told_at=told_at), change


def _alert(held: Held, level: Level | None, *, now: float) -> Alert:
    assert level is not None
    return Alert(
        level=level,
        about=held.measure.about,
        worker=held.measure.worker,
        share=round(held.measure.share, 4),
        words=held.measure.words,
        action=held.measure.action,
        since_seconds=round(max(0.0, now - held.since), 3),
    )


def _is_forgotten(held: Held, *, now: float) -> bool:
    """Calm for long enough that nothing of it bounds what may be told."""
    return held.level is None and all(now - at >= PAUSE_SECONDS for at in held.told_at.values())
