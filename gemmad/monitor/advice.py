"""What follows from samples of some time, in words and with their numbers. Pure; only what was measured counts."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence

from msgspec import Struct

from gemmad.monitor.sample import MemorySample
from gemmad.planning.sizes import format_bytes, setting_bytes

ENOUGH_SECONDS = 86400.0
"""A day has its busy hour: what was not needed in it may be taken away."""
SPARE_USAGE = 0.6
"""Of KV pages: at a lower peak some of them could go."""
HEADROOM = 1.25
"""What is left to a page pool, as a multiple of its peak."""
FULL_USAGE = 0.95
DRIFT_BYTES = 64 << 20
"""Less is not worth a word."""
IDLE_SHARE = 0.25
"""Of what is reserved, lying idle beside the plan."""


class Peaks(Struct, frozen=True, kw_only=True):
    """One worker over some time; None is what was never measured."""

    worker: str
    since: float
    until: float
    samples: int
    lives: int
    kv_usage: float | None = None
    kv_bytes: int | None = None
    """All pages together, as of the last sample."""
    preemptions: int = 0
    planned_bytes: int | None = None
    reserved_bytes: int | None = None
    above_baseline_bytes: int | None = None
    fragmentation: float | None = None
    host_rss_bytes: int = 0
    host_rss_first_bytes: int = 0
    """Of the last life's first sample with one, so that growth can be told from size."""
    host_rss_last_bytes: int = 0

    @property
    def seconds(self) -> float:
        """Between its first and its last sample."""
        return self.until - self.since


class Suggestion(Struct, frozen=True, kw_only=True):
    """Something to consider, of one worker."""

    worker: str
    about: str
    """`kv`, `drift`, `fragmentation`, `host`, or `time`: too little was seen to tell."""
    words: str


def peaks_of(samples: Iterable[MemorySample]) -> tuple[Peaks, ...]:
    """One for each worker, in the order of their names. Samples come in the order of their time; thinned ones have kept
    their peaks."""
    ordered = sorted(samples, key=lambda sample: (sample.worker, sample.at))
    return tuple(_peaks(name, list(own)) for name, own in itertools.groupby(ordered, key=lambda sample: sample.worker))


def suggestions(samples: Sequence[MemorySample]) -> tuple[Suggestion, ...]:
    """What to consider; nothing where all is well and was watched for long enough."""
    return tuple(each for peaks in peaks_of(samples) for each in _of_worker(peaks))


def _of_worker(peaks: Peaks) -> list[Suggestion]:
    told = [
        ("kv", _pages(peaks)),
        ("drift", _drift(peaks)),
        ("fragmentation", _fragmentation(peaks)),
        ("host", _host(peaks)),
        ("time", _time(peaks)),
    ]
    return [Suggestion(worker=peaks.worker, about=about, words=words) for about, words in told if words]


def _pages(peaks: Peaks) -> str:
    if peaks.kv_usage is None:
        return ""
    used = f"peak KV use {peaks.kv_usage:.0%} over {span(peaks.seconds)}"
    if peaks.preemptions:
        return (
            f"{used}, and {peaks.preemptions} requests were set back for lack of pages and computed again: it needs "
            "more pages (memory.kv_bytes, memory.fraction) or fewer requests at a time (engine.max_sequences)"
        )
    if peaks.kv_usage >= FULL_USAGE:
        return f"{used}, and nothing was set back yet: more load will be; memory.kv_bytes or memory.fraction give more"
    if peaks.seconds < ENOUGH_SECONDS or peaks.kv_usage >= SPARE_USAGE or not peaks.kv_bytes:
        return ""
    keep = int(peaks.kv_bytes * min(1.0, peaks.kv_usage * HEADROOM))
    return (
        f"{used}: {format_bytes(peaks.kv_bytes - keep)} of {format_bytes(peaks.kv_bytes)} could go to a longer context "
        "or more sequences (engine.max_context, engine.max_sequences), or to others by "
        f'memory.kv_bytes = "{setting_bytes(keep, up=True)}", which leaves a quarter above the peak; until then the '
        "prefix cache has them"
    )


def _drift(peaks: Peaks) -> str:
    above = peaks.above_baseline_bytes
    if above is None or above < DRIFT_BYTES:
        return ""
    return (
        f"it has taken up to {format_bytes(above)} more of its GPU than when it was ready, and should take nothing: "
        "recycle.vram_drift renews it beyond a limit; it is a fault of gemmad's, so please report it"
    )


def _fragmentation(peaks: Peaks) -> str:
    idle, reserved = peaks.fragmentation, peaks.reserved_bytes
    if idle is None or reserved is None or idle < IDLE_SHARE:
        return ""
    return (
        f"up to {idle:.0%} of what it has reserved on its GPU lay idle ({format_bytes(int(idle * reserved))}): "
        "recycle.fragmentation renews it beyond a limit"
    )


def _host(peaks: Peaks) -> str:
    first, last = peaks.host_rss_first_bytes, peaks.host_rss_last_bytes
    if peaks.seconds < ENOUGH_SECONDS / 4 or last - first < max(256 << 20, first // 4):
        return ""
    return (
        f"its process has grown from {format_bytes(first)} to {format_bytes(last)} of host memory in this life: "
        "recycle.host_rss renews it beyond a limit"
    )


def _time(peaks: Peaks) -> str:
    if peaks.seconds >= ENOUGH_SECONDS:
        return ""
    return (
        f"seen for {span(peaks.seconds)} only, too short to tell what it could do without: that takes "
        f"{span(ENOUGH_SECONDS)}"
    )


def span(seconds: float) -> str:
    """For people, rounded: `7 days`, `3 hours`, `12 minutes`, `40 seconds`."""
    for size, name in ((86400, "day"), (3600, "hour"), (60, "minute")):
        if seconds >= 2 * size:
            return f"{round(seconds / size)} {name}s"
    return f"{round(seconds)} seconds"


def _peaks(name: str, samples: Sequence[MemorySample]) -> Peaks:
    """Of one worker; at least one sample."""
    latest = samples[-1]
    same_life = list(itertools.takewhile(lambda sample: sample.life == latest.life, reversed(samples)))
    rss = [sample.host_rss_bytes for sample in reversed(same_life) if sample.host_rss_bytes and sample.state == "ready"]
    return Peaks(
        worker=name,
        since=samples[0].at,
        until=latest.at,
        samples=len(samples),
        lives=1 + sum(one.life != other.life for one, other in itertools.pairwise(samples)),
        kv_usage=max((sample.kv_usage for sample in samples if sample.kv_usage is not None), default=None),
        kv_bytes=_latest([sample.kv_bytes for sample in samples]),
        preemptions=_risen(samples),
        planned_bytes=_latest([sample.planned_bytes for sample in samples]),
        reserved_bytes=_highest(sample.reserved_bytes for sample in samples),
        above_baseline_bytes=_highest(sample.above_baseline_bytes for sample in samples),
        fragmentation=max((share for sample in samples if (share := sample.fragmentation) is not None), default=None),
        host_rss_bytes=max(sample.host_rss_bytes for sample in samples),
        host_rss_first_bytes=rss[0] if rss else 0,
        host_rss_last_bytes=rss[-1] if rss else 0,
    )


def _risen(samples: Sequence[MemorySample]) -> int:
    """Requests set back meanwhile: what a count that begins again with each life has risen by."""
    risen = 0
    for before, after in itertools.pairwise(samples):
        is_same = before.life == after.life and after.preemptions >= before.preemptions
        risen += after.preemptions - before.preemptions if is_same else after.preemptions
    return risen


def _latest(values: Sequence[int | None]) -> int | None:
    return next((value for value in reversed(values) if value is not None), None)


def _highest(values: Iterable[int | None]) -> int | None:
    return max((value for value in values if value is not None), default=None)
