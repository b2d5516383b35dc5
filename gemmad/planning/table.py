"""A plan for people: aligned plain text, which reads the same on a terminal, in a log and in a file."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from gemmad.generation import EngineSettings, MemoryRow
from gemmad.planning.budget import RESERVE, MemoryPlan
from gemmad.planning.remedies import Advice
from gemmad.planning.sizes import format_bytes

_GAP = "  "


def measured_bytes(rows: Iterable[MemoryRow]) -> int:
    """Sum of what was measured, and of the plan where nothing was; the reserve is not taken, so it does not count."""
    known = (row.planned_bytes if row.measured_bytes is None else row.measured_bytes for row in rows if _taken(row))
    return sum(known)


def rows_text(rows: Sequence[MemoryRow]) -> str:
    """One line a row, and their sum; a column of measured bytes if there are any."""
    measured = any(row.measured_bytes is not None for row in rows)
    lines = [["", "planned", "measured"]]
    lines += [[row.name, format_bytes(row.planned_bytes), _measured(row)] for row in rows]
    lines += [["sum", format_bytes(sum(row.planned_bytes for row in rows)), format_bytes(measured_bytes(rows))]]
    return aligned(lines if measured else [line[:2] for line in lines])


def plan_text(plan: MemoryPlan, title: str) -> str:
    """The rows, the share that they are held against, the formats, the pages, and how many sequences they hold."""
    parts = [title, rows_text(plan.rows), f"{share_text(plan)}\n{formats_text(plan)}"]
    if plan.fits:
        parts += [pages_text(plan), fits_text(plan)]
    return "\n\n".join(parts)


def share_text(plan: MemoryPlan) -> str:
    """What the worker may take of its device."""
    if not plan.on_gpu:
        return f"The host has {format_bytes(plan.total_bytes)}."
    return f"The worker may take {format_bytes(plan.share_bytes)} of the GPU's {format_bytes(plan.total_bytes)}."


def formats_text(plan: MemoryPlan) -> str:
    """What weights and the KV cache are kept in."""
    coding, kv = plan.coding, plan.dtype if plan.kv == "bf16" else plan.kv
    groups = f" in groups of {coding.group}" if coding is not None and coding.kind == "int4" else ""
    return f"Weights are {plan.weights}{groups}, keys and values {kv}."


def pages_text(plan: MemoryPlan) -> str:
    """How many pages there are, and what one costs."""
    pages = plan.pages
    return (
        f"{pages.full_pages} full pages of {format_bytes(pages.full_page_bytes)}, "
        f"{pages.sliding_pages} sliding pages of {format_bytes(pages.sliding_page_bytes)}."
    )


def fits_text(plan: MemoryPlan) -> str:
    """Sequences side by side, for each length."""
    lines = [["tokens", *(str(fit.tokens) for fit in plan.fits)]]
    lines += [["sequences", *(str(fit.sequences) for fit in plan.fits)]]
    return aligned(lines)


def memory_fields(rows: Sequence[MemoryRow]) -> dict[str, str]:
    """A worker's memory as the fields of one event: what was planned and measured in all, and each row."""
    fields = {
        "planned": format_bytes(sum(row.planned_bytes for row in rows)),
        "measured": format_bytes(measured_bytes(rows)),
    }
    for row in rows:
        count = row.planned_bytes if row.measured_bytes is None else row.measured_bytes
        fields[row.name.replace(" ", "_")] = format_bytes(count)
    return fields


def plan_facts(plan: MemoryPlan, settings: EngineSettings, advice: Advice | None) -> dict[str, Any]:
    """The same for programs: what `json.dumps` takes. Bytes and tokens are numbers."""
    return {
        "device": "cuda" if plan.on_gpu else "cpu",
        "total_bytes": plan.total_bytes,
        "share_bytes": plan.share_bytes,
        "planned_bytes": plan.planned_bytes,
        "max_context": plan.max_context,
        "max_sequences": settings.max_sequences,
        "dtype": plan.dtype,
        "weights": "bf16" if plan.coding is None else plan.coding.kind,
        "kv": plan.kv,
        "rows": {row.name: row.planned_bytes for row in plan.rows},
        "pages": msgspec.to_builtins(plan.pages),
        "sequences": [msgspec.to_builtins(fit) for fit in plan.fits],
        "problem": plan.problem,
        "remedies": [{"setting": r.setting, "value": r.value} for r in advice.remedies] if advice else [],
        "together": dict(advice.together) if advice else {},
        "gpu_bytes": advice.gpu_bytes if advice else None,
        "models": list(advice.models) if advice else [],
    }


def aligned(lines: Sequence[Sequence[str]]) -> str:
    """Columns as wide as their widest cell, the first to the left, numbers to the right."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    shown = []
    for line in lines:
        first, *others = line
        cells = [first.ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True)]
        shown.append(_GAP.join(cells).rstrip())
    return "\n".join(shown)


def _measured(row: MemoryRow) -> str:
    return "" if row.measured_bytes is None else format_bytes(row.measured_bytes)


def _taken(row: MemoryRow) -> bool:
    return row.name != RESERVE
