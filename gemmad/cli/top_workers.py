"""How `gemmad top` shows a worker: its fields, most important first, in as many lines as they take."""

from __future__ import annotations

from collections.abc import Sequence

from rich.text import Text

from gemmad.api.overview import WorkerOverview
from gemmad.cli.status_text import duration, one_line, state_words
from gemmad.cli.top_glyphs import BAD, DIM, GOOD, MIDDLING, Glyphs, bar, style_of
from gemmad.supervisor.gauges import GpuGauge

GAP = "  "
_STYLES = {"ready": GOOD, "failed": BAD, "backoff": BAD, "hung": BAD, "killing": BAD}
_SMALLEST_BAR, _LARGEST_BAR = 6, 20


def worker_lines(worker: WorkerOverview, gauge: GpuGauge | None, *, width: int, glyphs: Glyphs) -> list[Text]:
    """The first line tells most; the others are indented."""
    fields = [_title(worker), *_use(worker, gauge, width, glyphs), *_gauge(gauge, worker), *_facts(worker)]
    lines = flow(fields, width, indent=2)
    for name, words in (("waits for", worker.waits_for), ("last error", worker.last_error)):
        if words:
            lines.append(Text(f"  {name}: {one_line(words)}", style=MIDDLING if name == "waits for" else BAD))
    if worker.successor is not None:
        after = worker.successor
        lines.append(Text.assemble("  next ", (one_line(state_words(after)), _STYLES.get(after.state, MIDDLING))))
    return lines


def flow(fields: Sequence[Text], width: int, *, indent: int) -> list[Text]:
    """Fields one after another, in a new line where the next one does not fit."""
    lines: list[Text] = []
    for field in fields:
        if not field.plain:
            continue
        if lines and lines[-1].cell_len + len(GAP) + field.cell_len <= width:
            lines[-1].append(GAP).append_text(field)
        else:
            lines.append(Text(" " * (indent if lines else 0)).append_text(field))
    return lines


def short_bytes(count: int) -> str:
    """In a few characters: `70.1G`, `820M`."""
    for size, unit in ((1 << 40, "T"), (1 << 30, "G"), (1 << 20, "M")):
        if count >= size:
            amount = count / size
            return f"{amount:.0f}{unit}" if amount >= 99.5 or unit == "M" else f"{amount:.1f}{unit}"
    return f"{count >> 10}K"


def _title(worker: WorkerOverview) -> Text:
    state = one_line(state_words(worker))
    return Text.assemble((one_line(worker.name), "bold"), " ", (state, _STYLES.get(worker.state, MIDDLING)))


def _use(worker: WorkerOverview, gauge: GpuGauge | None, width: int, glyphs: Glyphs) -> list[Text]:
    """Bars of what it does and has; while it loads, how far it is."""
    room = min(_LARGEST_BAR, max(_SMALLEST_BAR, (width - 52) // 2))
    fields = []
    if worker.progress is not None and worker.state == "starting":
        fields.append(Text("load ").append_text(bar(worker.progress, room, glyphs, style=MIDDLING)))
    if worker.load is not None and worker.capacity is not None:
        waiting = f"+{worker.load.waiting}" if worker.load.waiting else ""
        fields.append(Text(f"{worker.load.running}{waiting}/{worker.capacity.max_sequences}"))
    if worker.kv_usage is not None:
        fields.append(Text("KV ").append_text(bar(worker.kv_usage, room, glyphs)).append(f" {worker.kv_usage:.0%}"))
    return [*fields, _vram(worker, gauge, room, glyphs)]


def _vram(worker: WorkerOverview, gauge: GpuGauge | None, room: int, glyphs: Glyphs) -> Text:
    """Used of the whole device, and a mark at what was planned. What the driver does not tell is the plan's."""
    used = worker.load.device_bytes if worker.load is not None else 0
    planned = sum(row.planned_bytes for row in worker.memory)
    total = (gauge.memory_total_bytes if gauge is not None else None) or planned
    if worker.gpu is None or not total or not used:
        return Text()
    mark = planned / total if 0 < planned < total else None
    words = f" {short_bytes(used)}/{short_bytes(planned or total)}"
    return Text("VRAM ").append_text(bar(used / total, room, glyphs, mark=mark)).append(words)


def _gauge(gauge: GpuGauge | None, worker: WorkerOverview) -> list[Text]:
    if gauge is None:
        return []
    fields = []
    if gauge.utilisation is not None:
        fields.append(Text(f"GPU {gauge.utilisation:.0%}"))
    if gauge.temperature_celsius is not None:
        style = BAD if gauge.temperature_celsius >= 90 else MIDDLING if gauge.temperature_celsius >= 80 else ""
        fields.append(Text(f"{gauge.temperature_celsius:.0f}C", style=style))
    if gauge.power_watts is not None:
        limit = f"/{gauge.power_limit_watts:.0f}" if gauge.power_limit_watts else ""
        fields.append(Text(f"{gauge.power_watts:.0f}{limit}W"))
    if gauge.memory_used_bytes is not None and gauge.memory_total_bytes and worker.gpu is not None:
        share = gauge.memory_used_bytes / gauge.memory_total_bytes
        words = f"device {short_bytes(gauge.memory_used_bytes)}/{short_bytes(gauge.memory_total_bytes)}"
        fields.append(Text(words, style=style_of(share) if share >= 0.98 else ""))
    return fields


def _facts(worker: WorkerOverview) -> list[Text]:
    fields = []
    if worker.load is not None and worker.load.host_rss_bytes:
        fields.append(Text(f"host {short_bytes(worker.load.host_rss_bytes)}"))
    fields.append(Text(f"life {worker.life}", style=DIM))
    fields.append(Text(f"for {duration(worker.state_seconds)}", style=DIM))
    if worker.load is not None and worker.load.prompt_tokens:
        fields.append(Text(f"cached {worker.load.cached_tokens / worker.load.prompt_tokens:.0%}", style=DIM))
    if worker.next_recycle_in_seconds is not None:
        fields.append(Text(f"recycle in {duration(worker.next_recycle_in_seconds)}", style=DIM))
    return fields
