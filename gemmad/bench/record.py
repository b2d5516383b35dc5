"""The record of a run: rows of figures with every sample, and all that is needed to run it again.

The file is replaced after each row, so that a run that is cut off leaves what it has measured.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import msgspec
from msgspec import Struct

from gemmad.bench.floor import Roof, Work
from gemmad.bench.stats import Spread, spread

SCHEMA_VERSION = 1

Status = Literal["ok", "skipped", "failed"]
Ended = Literal["running", "complete", "out of time", "interrupted"]


class Row(Struct, frozen=True, kw_only=True):
    """One figure."""

    label: str
    scenario: str = ""
    status: Status = "ok"
    reason: str = ""
    """Why there is no figure, or why it is not right."""
    unit: str = ""
    samples: tuple[float, ...] = ()
    spread: Spread | None = None
    floor: float | None = None
    """What the device could do at best, in `unit`."""
    percent_of_floor: float | None = None
    """100 is the physical floor, less is slower."""
    achieved: float | None = None
    """Reading or multiplying, whichever bounds the floor, at the median."""
    achieved_unit: str = ""
    details: dict[str, float] = {}


class Report(Struct, frozen=True, kw_only=True):
    """One run. `facts`: command, versions, device, model, settings."""

    schema: int = SCHEMA_VERSION
    ended: Ended = "running"
    seconds: float = 0.0
    facts: dict[str, Any]
    rows: tuple[Row, ...] = ()


def time_row(
    label: str,
    seconds: Sequence[float],
    *,
    roof: Roof | None = None,
    work: Work | None = None,
    details: Mapping[str, float] | None = None,
) -> Row:
    """A row in milliseconds; its floor is the least time for `work`."""
    samples = _rounded(1e3 * sample for sample in seconds)
    row = Row(label=label, unit="ms", samples=samples, spread=spread(samples), details=dict(details or {}))
    if roof is None or work is None:
        return row
    return _with_floor(row, roof, work, floor=1e3 * roof.seconds(work), at=spread(seconds).median)


def rate_row(
    label: str,
    seconds: Sequence[float],
    *,
    tokens: float,
    roof: Roof | None = None,
    work: Work | None = None,
    details: Mapping[str, float] | None = None,
) -> Row:
    """A row in tokens a second, each sample `tokens` in so many seconds; its floor is `tokens` in the least time."""
    samples = _rounded(tokens / sample for sample in seconds)
    row = Row(label=label, unit="tok/s", samples=samples, spread=spread(samples), details=dict(details or {}))
    if roof is None or work is None:
        return row
    return _with_floor(row, roof, work, floor=tokens / roof.seconds(work), at=spread(seconds).median)


def value_row(label: str, unit: str, samples: Sequence[float], **details: float) -> Row:
    """A row without a floor."""
    return Row(label=label, unit=unit, samples=tuple(samples), spread=spread(samples), details=details)


def _rounded(samples: Iterable[float]) -> tuple[float, ...]:
    """Six digits: mixed traffic has tens of thousands of samples, and no clock is as good as a float."""
    return tuple(float(f"{sample:.6g}") for sample in samples)


def _with_floor(row: Row, roof: Roof, work: Work, *, floor: float, at: float) -> Row:
    reads = roof.bound_by_memory(work)
    return msgspec.structs.replace(
        row,
        floor=floor,
        percent_of_floor=100 * roof.seconds(work) / at,
        achieved=(work.nbytes if reads else work.flop) / at / 1e12,
        achieved_unit="TB/s" if reads else "TFLOP/s",
    )


def replace_json(path: Path, report: Struct) -> None:
    """Put a report into a file, whole: who reads it meanwhile sees the old one."""
    new = path.with_name(path.name + ".new")
    new.write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=2) + b"\n")
    os.replace(new, path)


class Recorder:
    """Holds the report of the run under way, and writes it whenever it changes. One writer: the run."""

    def __init__(self, path: Path | None, facts: dict[str, Any]) -> None:
        self._path = path
        self.report = Report(facts=facts)
        self._write()

    def add(self, row: Row, *, seconds: float) -> None:
        """One more row, `seconds` after the start."""
        self._change(rows=(*self.report.rows, row), seconds=seconds)

    def learn(self, **facts: Any) -> None:
        """More of what is true of the whole run."""
        self._change(facts=self.report.facts | facts)

    def end(self, ended: Ended, *, seconds: float) -> None:
        """The last change."""
        self._change(ended=ended, seconds=seconds)

    def _change(self, **fields: Any) -> None:
        self.report = msgspec.structs.replace(self.report, **fields)
        self._write()

    def _write(self) -> None:
        if self._path is not None:
            replace_json(self._path, self.report)
