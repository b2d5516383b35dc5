"""What follows from samples: only what was measured, with the numbers."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from gemmad.monitor.advice import peaks_of, span, suggestions
from gemmad.monitor.sample import MemorySample
from tests.unit.monitor.samples import GIB, T0, sample

DAY = 86400.0


def over(days: float, *, steps: int = 100, **fields: Any) -> list[MemorySample]:
    """A worker that was the same all the time."""
    return [sample(T0 + days * DAY * i / (steps - 1), **fields) for i in range(steps)]


def words(samples: list[MemorySample], about: str) -> str:
    return "; ".join(each.words for each in suggestions(samples) if each.about == about)


def test_what_was_never_used() -> None:
    """A week with pages to spare: how much could go where, and the setting that does it."""
    told = words([*over(7), sample(T0 + 3 * DAY, full_pages_used=310)], "kv")
    assert told.startswith("peak KV use 31% over 7 days: 6.12 GiB of 10.00 GiB could go")
    assert 'memory.kv_bytes = "3968MiB"' in told
    assert [each.about for each in suggestions(over(7))] == ["kv"]


def test_too_short_to_tell() -> None:
    """An hour says nothing of a busy day, and that is said."""
    told = suggestions(over(1 / 24))
    assert [each.about for each in told] == ["time"]
    assert "60 minutes" in told[0].words
    assert "24 hours" in told[0].words


def test_all_is_well() -> None:
    """Pages that are used, and nothing that grows: nothing to consider."""
    assert suggestions(over(3, full_pages_used=700)) == ()


def test_too_few_pages() -> None:
    """That requests were set back is told however short the time, with how many."""
    samples = [sample(T0 + i, preemptions=i, full_pages_used=990) for i in range(5)]
    assert "4 requests were set back" in words(samples, "kv")
    samples = [*samples, sample(T0 + 10, life=2, preemptions=3)]
    assert "7 requests were set back" in words(samples, "kv")
    assert "peak KV use 99%" in words(over(2, full_pages_used=990), "kv")


def test_growth() -> None:
    """Drift, fragmentation and a growing process are told with their numbers and the setting that cures them."""
    told = words(over(1, above_baseline_bytes=300 << 20), "drift")
    assert "300.00 MiB" in told
    assert "recycle.vram_drift" in told
    assert "50%" in words(over(1, allocated_bytes=35 * GIB), "fragmentation")
    grown = [sample(T0 + i * 3600, host_rss_bytes=(2 + i // 6) * GIB) for i in range(25)]
    assert "from 2.00 GiB to 6.00 GiB" in words(grown, "host")
    assert words([*grown[:24], sample(T0 + DAY, life=2)], "host") == ""


def test_a_cpu_has_no_gpu() -> None:
    """Of what is not measured nothing is said."""
    nothing: dict[str, Any] = dict.fromkeys(
        ("planned_bytes", "reserved_bytes", "allocated_bytes", "above_baseline_bytes")
    )
    samples = over(2, full_pages=0, sliding_pages=0, kv_bytes=None, **nothing)
    assert suggestions(samples) == ()
    (peaks,) = peaks_of(samples)
    assert (peaks.kv_usage, peaks.reserved_bytes, peaks.fragmentation) == (None, None, None)


def test_workers_are_told_apart() -> None:
    """Each has its own peaks."""
    samples = [*over(1), *over(1, worker="gpu1", full_pages_used=900, life=3)]
    assert [(peaks.worker, peaks.kv_usage, peaks.lives) for peaks in peaks_of(samples)] == [
        ("gpu0", 0.2, 1),
        ("gpu1", 0.9, 1),
    ]


@given(st.lists(st.tuples(st.integers(0, 1000), st.integers(1, 3), st.integers(0, 50)), min_size=1, max_size=60))
def test_nothing_is_made_up(drawn: list[tuple[int, int, int]]) -> None:
    """Whatever was measured, peaks are values of samples, and what could go is less than there is."""
    samples = [
        sample(T0 + 3600.0 * i, full_pages_used=used, life=life, preemptions=preemptions)
        for i, (used, life, preemptions) in enumerate(drawn)
    ]
    (peaks,) = peaks_of(samples)
    assert peaks.kv_usage in [each.kv_usage for each in samples]
    assert peaks.preemptions >= max(after.preemptions for after in samples) - samples[0].preemptions
    assert "-" not in words(samples, "kv").partition("could go")[0]


def test_spans() -> None:
    """Times are told in the largest unit of which there are two."""
    assert [span(seconds) for seconds in (40, 150, 7200, DAY, 2 * DAY, 7 * DAY)] == [
        "40 seconds",
        "2 minutes",
        "2 hours",
        "24 hours",
        "2 days",
        "7 days",
    ]
