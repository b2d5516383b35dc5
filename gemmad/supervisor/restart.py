"""When a worker that ended badly is tried again: pure arithmetic over its record.

Each fault counts 1, and what was counted halves every `restart_forgiveness` seconds, so a worker that crashes once a
day never runs out of budget and one that crashes on every start does so at once. The pause before the next life doubles
with the count. Beyond `restart_budget` the worker is given up for a longer pause, which doubles with every time that it
is given up again. Faults that time does not heal (settings that cannot work) are given up until something changes.
"""

from __future__ import annotations

import enum
import math

from msgspec import Struct

from gemmad.config.schema import WorkersSection
from gemmad.protocol.messages import EXIT_ASKED, EXIT_DEVICE_LOST, EXIT_SETTINGS

CRASH_DOUBLINGS = 30
"""Far beyond `restart_pause_limit`; keeps the power of two a number."""
SURRENDER_DOUBLINGS = 4
"""The pause of a worker that was given up grows to 2⁴ times `restart_pause_limit` and no further."""


class FaultKind(enum.Enum):
    """What ended a life, as far as it matters for the next one."""

    CRASH = "crash"
    SETTINGS = "settings"
    """Settings or weights that cannot work: the next life would end the same way."""
    DEVICE_LOST = "device lost"
    """The GPU is gone or broken: it needs time, not haste."""


class Fault(Struct, frozen=True):
    """Why a life ended that should not have."""

    kind: FaultKind
    reason: str


class Record(Struct, frozen=True):
    """What is remembered of a worker's faults."""

    weight: float = 0.0
    """Faults, each decayed by its age, as of `at`."""
    at: float = 0.0
    surrenders: int = 0
    """How many times in a row it was given up."""


class Retry(Struct, frozen=True):
    """Start the next life after a pause."""

    pause_seconds: float


class GiveUp(Struct, frozen=True):
    """Count it as failed; None: until its settings change."""

    pause_seconds: float | None


def judge(
    record: Record, kind: FaultKind, *, now: float, section: WorkersSection, chance: float
) -> tuple[Record, Retry | GiveUp]:
    """What follows a fault. `chance` in [0, 1) spreads the pauses of workers that fell together."""
    weight = decayed(record, now=now, half_life_seconds=section.restart_forgiveness) + 1.0
    if kind is FaultKind.SETTINGS:
        return Record(weight=weight, at=now, surrenders=record.surrenders), GiveUp(pause_seconds=None)
    if weight > section.restart_budget - 0.5:  # what decays within a burst of crashes is not forgiveness
        doublings = min(record.surrenders, SURRENDER_DOUBLINGS)
        pause = section.restart_pause_limit * 2**doublings
        record = Record(weight=weight, at=now, surrenders=record.surrenders + 1)
        return record, GiveUp(pause_seconds=_spread(pause, chance))
    pause = section.restart_pause_limit
    if kind is FaultKind.CRASH:
        pause = min(pause, section.restart_pause * 2.0 ** min(weight - 1.0, CRASH_DOUBLINGS))
    return Record(weight=weight, at=now), Retry(pause_seconds=_spread(pause, chance))


def decayed(record: Record, *, now: float, half_life_seconds: float) -> float:
    """The count of faults as of now."""
    return record.weight * math.exp2(-max(0.0, now - record.at) / half_life_seconds)


def judge_exit(code: int, *, asked: bool, draining: bool, doom: FaultKind | None) -> FaultKind | None:
    """What is wrong with a process that is gone, or None when it did as it was told.

    `doom` is what was known against it before its exit: it hung, it broke the protocol, it said its last words.
    """
    if asked or (draining and doom is None and code == EXIT_ASKED):
        return None
    told = {EXIT_SETTINGS: FaultKind.SETTINGS, EXIT_DEVICE_LOST: FaultKind.DEVICE_LOST}.get(code)
    return told or doom or FaultKind.CRASH


def _spread(pause_seconds: float, chance: float) -> float:
    return pause_seconds * (0.75 + 0.25 * chance)
