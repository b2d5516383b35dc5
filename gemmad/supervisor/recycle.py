"""Whether a worker is renewed, and which one next: pure choices; both clocks and chance are arguments.

A life that serves is renewed by the clock (its age, a time of day), by what it has done (requests), or by what it has
grown to (memory on its device beyond what it had when it was ready, memory that its allocator holds and does not use,
memory on the host). Three rules keep that from being noticed:

- **One at a time.** The next renewal begins when the last one is over: the new life is ready, the old one is gone.
- **Never the last one that is ready, while another could be.** It waits for the other, unless its own next life gets
  ready beside it.
- **Growth is not chased.** Who was renewed for growth and grows again at once would grow in every life. It is left
  alone for `GROWTH_SECONDS`, and for twice as long each time in a row.

A time of day means the clock on the wall. Each is one moment of each day: one that the clock skips in spring comes as
much later as the clock was put forward, one that it repeats in autumn counts the first time. The moment is looked for
from when the life was ready *by the wall clock of now*, so a clock that is set right moves the moment with it, and a
host that slept through one does not make up for it.
"""

from __future__ import annotations

import datetime
import enum
from collections.abc import Sequence

from msgspec import Struct

from gemmad.config.schema import RecycleSection
from gemmad.generation import EngineLoad
from gemmad.supervisor.gpus import in_gib

GROWTH_SECONDS = 600.0
GROWTH_DOUBLINGS = 8
"""The time without a renewal for growth does not grow beyond 2⁸ · 10 min, two days."""
FRESH_SECONDS = 600.0
"""A time of day passes over a worker that has only just become ready."""
HOUR_SECONDS = 3600.0
FAILED_PAUSE_SECONDS = 60.0
FAILED_DOUBLINGS = 6
"""After a renewal whose new life did not get ready, the next try waits a minute, and up to 2⁶ times that."""


class Why(enum.Enum):
    """What a life is renewed for."""

    ASKED = "asked"
    AGE = "age"
    TIME = "time of day"
    REQUESTS = "requests"
    DRIFT = "memory on the device"
    FRAGMENTATION = "fragmentation"
    RSS = "memory on the host"
    SETTINGS = "settings"


GROWTH = frozenset({Why.DRIFT, Why.FRAGMENTATION, Why.RSS})


class Reason(Struct, frozen=True):
    """Why now."""

    why: Why
    words: str


class Tenure(Struct, frozen=True, kw_only=True):
    """A life that serves, as far as its renewal depends on it."""

    age_seconds: float
    """Since it was ready."""
    chance: float
    """In [0, 1), drawn once for this life; spreads what would otherwise fall together."""
    requests: int = 0
    baseline_bytes: int | None = None
    """What it held of its device when it was ready."""
    load: EngineLoad | None = None
    growths: int = 0
    """How many renewals before it, in a row, were for growth."""


class Candidate(Struct, frozen=True, kw_only=True):
    """A worker, as far as it matters for whose turn it is."""

    name: str
    ready: bool
    coming: bool = False
    """It is not ready, and could be soon."""
    reason: Reason | None = None
    """Why it should be renewed; None: it should not."""
    beside: bool = False
    """There is room for its next life beside it."""
    renewed_at: float = 0.0
    """When it was renewed the last time."""


def reason_to_renew(
    tenure: Tenure, section: RecycleSection, *, wall: float, zone: datetime.tzinfo | None = None
) -> Reason | None:
    """Why this life is over as of now. `wall` is seconds since the epoch; without a `zone` the host's own holds."""
    due = due_in_seconds(tenure, section, wall=wall, zone=zone)
    if due is not None and due[0] <= 0:
        return due[1]
    if section.after_requests is not None and tenure.requests >= section.after_requests:
        return Reason(Why.REQUESTS, f"it was handed {tenure.requests} requests")
    if tenure.age_seconds >= growth_pause_seconds(tenure.growths):
        return _growth(tenure, section)
    return None


def due_in_seconds(
    tenure: Tenure, section: RecycleSection, *, wall: float, zone: datetime.tzinfo | None = None
) -> tuple[float, Reason] | None:
    """When the clock will renew this life, and why; None if it never will. Not above 0: now."""
    due: list[tuple[float, Reason]] = []
    if section.every is not None:
        seconds = section.every * (1.0 - section.jitter * tenure.chance)
        due.append((seconds - tenure.age_seconds, Reason(Why.AGE, f"it is older than {seconds:.0f} s")))
    if section.at:
        began = wall - tenure.age_seconds
        moment = next_moment(section.at, after=began + FRESH_SECONDS, zone=zone)
        later = HOUR_SECONDS * section.jitter * tenure.chance
        due.append((moment + later - wall, Reason(Why.TIME, f"it is the time of day for it ({', '.join(section.at)})")))
    return min(due, key=lambda each: each[0], default=None)


def next_moment(times: Sequence[str], *, after: float, zone: datetime.tzinfo | None = None) -> float:
    """The first moment after `after`, in seconds since the epoch, at which the clock on the wall shows one of `times`
    ("HH:MM", one at least), with one moment for each time and day whatever the clock is put to."""
    today = datetime.datetime.fromtimestamp(after, zone).date()
    days = [today + datetime.timedelta(days) for days in (-1, 0, 1, 2)]
    clocks = [datetime.time.fromisoformat(time) for time in times]
    # fold=0, the default: a repeated time is its first, a skipped one is counted from before the gap (PEP 495)
    moments = [datetime.datetime.combine(day, clock, zone).timestamp() for day in days for clock in clocks]
    return min(moment for moment in moments if moment > after)


def growth_pause_seconds(growths: int) -> float:
    """How old a life must be to be renewed for growth, after so many in a row that were."""
    return GROWTH_SECONDS * 2.0 ** min(growths, GROWTH_DOUBLINGS)


def growths_after(tenure: Tenure, why: Why) -> int:
    """What the next life inherits: one more, or a clean sheet once a life has grown slowly."""
    if why not in GROWTH:
        return 0
    return tenure.growths + 1 if tenure.age_seconds < 2 * growth_pause_seconds(tenure.growths) else 1


def failed_pause_seconds(failures: int) -> float:
    """How long to leave a worker alone after so many renewals in a row whose new life did not get ready."""
    return FAILED_PAUSE_SECONDS * 2.0 ** min(failures - 1, FAILED_DOUBLINGS)


def choose(candidates: Sequence[Candidate]) -> Candidate | None:
    """Whose turn it is while nobody is being renewed: who was asked for before the others, then whose last time is
    longest ago."""
    able = [each for each in candidates if each.ready and each.reason is not None and _may_go(each, candidates)]
    return min(able, key=_turn, default=None)


def _turn(candidate: Candidate) -> tuple[bool, float]:
    assert candidate.reason is not None
    return candidate.reason.why not in {Why.ASKED, Why.SETTINGS}, candidate.renewed_at


def _may_go(candidate: Candidate, candidates: Sequence[Candidate]) -> bool:
    others = [other for other in candidates if other is not candidate]
    return candidate.beside or any(other.ready for other in others) or not any(other.coming for other in others)


def _growth(tenure: Tenure, section: RecycleSection) -> Reason | None:
    load = tenure.load
    if load is None:
        return None
    if section.vram_drift is not None and tenure.baseline_bytes is not None:
        drift = load.device_bytes - tenure.baseline_bytes
        if drift > section.vram_drift:
            return Reason(Why.DRIFT, f"it has taken {in_gib(drift)} more of its GPU than when it was ready")
    if section.fragmentation is not None and load.device_bytes > 0:
        idle = 1.0 - load.device_allocated_bytes / load.device_bytes
        if idle > section.fragmentation:
            return Reason(Why.FRAGMENTATION, f"{idle:.0%} of what it has taken on its GPU lies idle")
    if section.host_rss is not None and load.host_rss_bytes > section.host_rss:
        return Reason(Why.RSS, f"its process has grown to {in_gib(load.host_rss_bytes)}")
    return None
