"""Where the memory went: the plan's rows beside what came of them, right after the warm-up."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import torch

from gemmad.bench.record import Row, value_row
from gemmad.bench.stage import Case, Stage

_GIB = 2**30


def memory(stage: Stage) -> Iterator[Case]:
    """The plan, and what the device says of it."""
    yield Case("memory", lambda: _memory(stage))


def _memory(stage: Stage) -> Iterator[Row]:
    engine = stage.rig.engine
    held, load = engine.capacity, engine.load()
    sizes = {"full_pages": held.full_pages, "sliding_pages": held.sliding_pages, "page_tokens": held.page_tokens}
    yield value_row("longest context", "tokens", [held.max_context], **sizes)
    yield value_row("memory of this process on the host", "GiB", [load.host_rss_bytes / _GIB])
    if load.device_bytes:
        peak = torch.cuda.max_memory_reserved()
        yield value_row("memory reserved by the allocator", "GiB", [load.device_bytes / _GIB], peak=peak / _GIB)
    for row in engine.memory.measure():
        planned, measured = row.planned_bytes / _GIB, row.measured_bytes
        if measured is None:
            figure = value_row(f"memory: {row.name}", "GiB", [planned])
            yield msgspec.structs.replace(figure, reason="planned, not measured")
        else:
            yield value_row(f"memory: {row.name}", "GiB", [measured / _GIB], planned=planned)
