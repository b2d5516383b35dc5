"""Memory samples for a terminal: a line for each worker, then what follows. Nothing here asks or prints."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from gemmad.cli.status_text import one_line
from gemmad.monitor.advice import Peaks, peaks_of, span, suggestions
from gemmad.monitor.sample import MemorySample
from gemmad.planning.sizes import format_bytes

SPARK_WIDTH = 16
_BARS = "▁▂▃▄▅▆▇█"
_TITLES = ("WORKER", "PLANNED", "RESERVED", "KV PEAK", "DRIFT", "HOST RSS", "FRAGMENTED", "SET BACK", "LIVES")


def lines(samples: Sequence[MemorySample], *, origin: str) -> list[str]:
    """All that is shown; `origin` says where the samples are from. At least one sample."""
    begin, end = min(sample.at for sample in samples), max(sample.at for sample in samples)
    rows = [_row(peaks, samples, begin=begin, end=end) for peaks in peaks_of(samples)]
    kept = [column for column in range(len(_TITLES)) if any(row[column] for row in rows)]
    cells = [tuple(row[column] for column in kept) for row in (_TITLES, *rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(kept))]
    table = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells]
    advice = [f"{one_line(each.worker)}: {each.words}" for each in suggestions(samples)]
    return [f"memory over {span(end - begin)}, {origin}", "", *table, *(["", *advice] if advice else [])]


def sparkline(values: Sequence[float | None], *, top: float, width: int = SPARK_WIDTH) -> str:
    """The highest value of each part of `values`; a blank is a part without any."""
    parts = [values[len(values) * i // width : len(values) * (i + 1) // width] for i in range(width)]
    return "".join(_bar(part, top) for part in parts)


def _bar(part: Sequence[float | None], top: float) -> str:
    known = [value for value in part if value is not None]
    if not known:
        return " "
    share = max(known) / top if top > 0 else 0.0
    return _BARS[min(len(_BARS) - 1, max(0, int(share * len(_BARS))))]


def _row(peaks: Peaks, samples: Sequence[MemorySample], *, begin: float, end: float) -> tuple[str, ...]:
    own = [sample for sample in samples if sample.worker == peaks.worker]
    kv = _over_time(own, lambda sample: sample.kv_usage, begin=begin, end=end)
    rss = _over_time(own, lambda sample: float(sample.host_rss_bytes) or None, begin=begin, end=end)
    return (
        one_line(peaks.worker),
        _bytes(peaks.planned_bytes),
        _bytes(peaks.reserved_bytes),
        "" if peaks.kv_usage is None else f"{peaks.kv_usage:4.0%} {sparkline(kv, top=1.0)}",
        "" if peaks.above_baseline_bytes is None else format_bytes(peaks.above_baseline_bytes),
        f"{format_bytes(peaks.host_rss_bytes)} {sparkline(rss, top=peaks.host_rss_bytes)}",
        "" if peaks.fragmentation is None else f"{peaks.fragmentation:.0%}",
        str(peaks.preemptions or ""),
        str(peaks.lives),
    )


def _over_time(
    samples: Sequence[MemorySample], value: Callable[[MemorySample], float | None], *, begin: float, end: float
) -> list[float | None]:
    """The highest in each of `SPARK_WIDTH` equal parts of the time; None where nothing was measured."""
    parts: list[float | None] = [None] * SPARK_WIDTH
    for sample in samples:
        place = min(SPARK_WIDTH - 1, int((sample.at - begin) / max(end - begin, 1e-9) * SPARK_WIDTH))
        new, old = value(sample), parts[place]
        if new is not None:
            parts[place] = new if old is None else max(old, new)
    return parts


def _bytes(count: int | None) -> str:
    return "" if count is None else format_bytes(count)
