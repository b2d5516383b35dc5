"""Memory samples as a picture. Only `gemmad memory --plot` imports this, and with it matplotlib."""

from __future__ import annotations

# mypy: disable-error-code="no-untyped-call"
# matplotlib.dates has no types
import datetime
import itertools
import socket
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter, date2num
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, PercentFormatter
from msgspec import Struct

from gemmad.monitor.sample import MemorySample

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7A5195", "#444444")
"""One a worker; those that colour-blind people can tell apart (Okabe and Ito)."""
GAP = 3.0
"""Of the usual pause between samples: a longer one breaks the line."""
_GIB, _MIB = float(1 << 30), float(1 << 20)
_STYLE: dict[str, Any] = {
    "font.size": 10,
    "axes.titlesize": 10.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#888888",
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#E3E3E3",
    "grid.linewidth": 0.8,
    "lines.linewidth": 1.5,
    "figure.facecolor": "white",
}

Value = Callable[[MemorySample], float | None]


class _Line(Struct, frozen=True):
    """What one panel draws of every worker."""

    value: Value
    style: Literal["-", "--", "-.", ":"] = "-"
    width: float = 1.6
    words: str | None = None
    """In the panel's legend."""


class _Panel(Struct, frozen=True):
    title: str
    unit: str
    lines: tuple[_Line, ...]
    is_share: bool = False


def draw(samples: Sequence[MemorySample], path: Path) -> None:
    """PNG or SVG, by the file's suffix. Raises OSError. `samples` are in the order of their time; at least one."""
    panels = [panel for panel in _PANELS if _has_values(panel, samples)]
    with mpl.rc_context(_STYLE):  # type: ignore[arg-type]  # newer stubs list every name there is
        figure = Figure(figsize=(11, 1.2 + 2.3 * len(panels)), layout=ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.08))
        axes = figure.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0]
        names = sorted({sample.worker for sample in samples})
        for panel, ax in zip(panels, axes, strict=True):
            for index, name in enumerate(names):
                own = [sample for sample in samples if sample.worker == name]
                _draw_worker(ax, panel, own, colour=COLOURS[index % len(COLOURS)])
            _dress(ax, panel)
        _dress_time(axes[-1])
        figure.align_ylabels(list(axes))
        figure.suptitle(_title(samples), fontsize=12.5, x=0.01, ha="left")
        handles = [Line2D([], [], color=COLOURS[i % len(COLOURS)], lw=3) for i in range(len(names))]
        figure.legend(handles, names, loc="outside upper right", ncols=min(8, len(names)), frameon=False)
        figure.savefig(path, dpi=150)


def _draw_worker(ax: Axes, panel: _Panel, samples: Sequence[MemorySample], *, colour: str) -> None:
    for line in panel.lines:
        times, values = _broken(samples, line.value)
        ax.plot(times, values, line.style, color=colour, linewidth=line.width, solid_capstyle="round")
    for before, after in itertools.pairwise(samples):
        if before.life != after.life:
            ax.axvline(date2num(_moment(after.at)), color=colour, linewidth=0.8, linestyle=(0, (1, 2)), alpha=0.7)


def _dress(ax: Axes, panel: _Panel) -> None:
    ax.set_title(panel.title)
    ax.set_ylabel(panel.unit)
    ax.margins(x=0.01)
    if panel.is_share:
        ax.set_ylim(-0.02, 1.03)
        ax.yaxis.set_major_formatter(PercentFormatter(1.0))
    else:
        top = max(ax.get_ylim()[1] * 1.05, 0.1)
        ax.set_ylim(bottom=-0.02 * top, top=top)  # a line at 0 is to be seen
        ax.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
    handles = [
        Line2D([], [], color="#555555", linestyle=line.style, linewidth=line.width, label=line.words)
        for line in panel.lines
        if line.words
    ]
    if handles:
        ax.legend(handles=handles, loc="lower left", ncols=len(handles), fontsize=9, framealpha=0.85, edgecolor="none")


def _dress_time(ax: Axes) -> None:
    zone = datetime.datetime.now().astimezone().tzinfo
    locator = AutoDateLocator(tz=zone, minticks=5, maxticks=12)
    ax.xaxis.set_major_locator(locator)
    formats = ["%Y", "%b %Y", "%d %b", "%H:%M", "%H:%M", "%S.%f"]  # of years, months, days, hours, minutes, seconds
    ax.xaxis.set_major_formatter(ConciseDateFormatter(locator, tz=zone, formats=formats))
    ax.set_xlabel(f"local time ({zone}); dotted: a new life of the worker")


def _broken(samples: Sequence[MemorySample], value: Value) -> tuple[list[float], list[float]]:
    """Times and values, with a hole where nothing was measured for long."""
    pauses = [after.at - before.at for before, after in itertools.pairwise(samples)]
    limit = GAP * statistics.median(pauses) if pauses else 0.0
    times: list[float] = []
    values: list[float] = []
    for sample, pause in zip(samples, [0.0, *pauses], strict=True):
        if pause > limit:
            times.append(date2num(_moment(sample.at - pause / 2)))
            values.append(float("nan"))
        measured = value(sample)
        times.append(date2num(_moment(sample.at)))
        values.append(float("nan") if measured is None else measured)
    return times, values


def _has_values(panel: _Panel, samples: Sequence[MemorySample]) -> bool:
    return any(line.value(sample) is not None for line in panel.lines[:1] for sample in samples)


def _title(samples: Sequence[MemorySample]) -> str:
    first, last = _moment(min(each.at for each in samples)), _moment(max(each.at for each in samples))
    return f"Memory of gemmad's workers on {socket.gethostname()}, {first:%Y-%m-%d %H:%M} to {last:%Y-%m-%d %H:%M}"


def _moment(at: float) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(at).astimezone()


def _in(count: int | None, unit: float) -> float | None:
    return None if count is None else count / unit


_PANELS = (
    _Panel(
        "On the GPU",
        "GiB",
        (
            _Line(lambda sample: _in(sample.reserved_bytes, _GIB), words="reserved"),
            _Line(lambda sample: _in(sample.allocated_bytes, _GIB), ":", 1.2, "handed out"),
            _Line(lambda sample: _in(sample.planned_bytes, _GIB), "--", 1.0, "planned"),
            _Line(lambda sample: _in(sample.gpu_total_bytes, _GIB), "-.", 0.8, "the GPU has"),
        ),
    ),
    _Panel(
        "KV pages in use, the most of each interval", "of all pages", (_Line(lambda sample: sample.kv_usage),), True
    ),
    _Panel(
        "Drift: taken on the GPU since it was ready",
        "MiB",
        (_Line(lambda sample: _in(sample.above_baseline_bytes, _MIB)),),
    ),
    _Panel(
        "Resident memory of the worker's process",
        "GiB",
        (_Line(lambda sample: _in(sample.host_rss_bytes or None, _GIB)),),
    ),
)
