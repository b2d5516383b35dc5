"""Planned, capped and measured, on devices that tests make up."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from gemmad.demo import CHECKPOINT
from gemmad.engine.memory import Ledger, Reading
from gemmad.errors import MemoryPlanError
from gemmad.generation import EngineSettings
from gemmad.models.config import read_config
from gemmad.planning.table import measured_bytes

GIB, MIB = 1 << 30, 1 << 20
TOTAL = 24 * GIB
CONTEXT = 400 * MIB


def ledger(*readings: Reading, held_bytes: int = 0, **changes: Any) -> Ledger:
    """Over a device that tells one reading after the other."""
    told: Iterator[Reading] = iter(readings)
    values: dict[str, Any] = {"checkpoint": str(CHECKPOINT), "device": "cuda:0", "kv_bytes": 64 * MIB} | changes
    return Ledger(read_config(CHECKPOINT), EngineSettings(**values), read=lambda: next(told), held_bytes=held_bytes)


def reading(*, outside: int = CONTEXT, reserved: int = 0, tensors: int = 0) -> Reading:
    """A GPU of 24 GiB."""
    return Reading(total=TOTAL, free=TOTAL - outside - reserved, reserved=reserved, tensors=tensors)


def test_pages_fill_the_share() -> None:
    """Where the settings are silent, pages take what the other rows leave of the share, if they can use it."""
    plan = ledger(reading(), kv_bytes=None, memory_fraction=0.09).plan
    assert plan.total_bytes == TOTAL
    assert 0 <= plan.share_bytes - plan.planned_bytes < plan.pages.sliding_page_bytes


def test_what_cannot_fit_is_refused_before_anything_is_loaded() -> None:
    """The message has the numbers and what would fit."""
    with pytest.raises(MemoryPlanError) as caught:
        ledger(reading(), memory_fraction=0.05)
    assert "the worker needs 1." in str(caught.value)
    assert "may take 1.20 GiB, 0.05 of the GPU's 24.00 GiB; to make it fit, set " in str(caught.value)
    assert "memory.reserve to " in str(caught.value)


def test_others_on_the_gpu() -> None:
    """Where other processes hold what the plan needs, it is refused with what they hold and the share that is left."""
    with pytest.raises(MemoryPlanError) as caught:
        ledger(reading(outside=20 * GIB), kv_bytes=None, max_sequences=4096)
    words = str(caught.value)
    assert "and 4.00 GiB are free: other processes hold about 19.31 GiB" in words
    assert "set memory.fraction, now 0.9 for this worker, to 0.195 or less" in words


def test_what_this_process_can_use_again_is_free() -> None:
    """Blocks that torch's allocator holds for nobody, and weights in place already, do not stand in the way."""
    full = reading(reserved=TOTAL - CONTEXT, tensors=GIB)
    assert ledger(full).plan.problem is None
    busy = reading(reserved=TOTAL - CONTEXT, tensors=TOTAL - CONTEXT)
    with pytest.raises(MemoryPlanError, match="0 B are free"):
        ledger(busy)
    assert ledger(busy, held_bytes=3 * GIB).plan.problem is None


def test_the_allocators_cap() -> None:
    """It is the share without context and graphs, beside what the process holds for others than this engine."""
    plain = ledger(reading())
    outside = plain.plan.planned("context", "graphs")
    assert plain.cap_bytes == int(TOTAL * 0.9) - outside
    second = ledger(reading(reserved=5 * GIB, tensors=5 * GIB), held_bytes=3 * GIB)
    assert second.cap_bytes == int(TOTAL * 0.9) - outside + 2 * GIB


def test_every_byte_that_was_taken_is_on_a_row() -> None:
    """Measured rows sum up to what the allocator has reserved and what the driver holds outside of it."""
    weights, full, sliding, table, steering = 5 * MIB, 40 * MIB, 24 * MIB, 2 * MIB, 3 * MIB
    tensors = weights + full + sliding + table + steering + 70 * MIB
    recorded = reading(outside=CONTEXT + 60 * MIB, reserved=tensors + 90 * MIB, tensors=tensors)
    served = reading(outside=CONTEXT + 61 * MIB, reserved=tensors + 96 * MIB, tensors=tensors)
    book = ledger(reading(), recorded, served)
    known = {"weights": weights, "kv full": full, "kv sliding": sliding, "vision": table, "steering": steering}
    for name, nbytes in known.items():
        book.note(name, nbytes)
    book.note_recorded()
    rows = book.measure()
    measured = {row.name: row.measured_bytes for row in rows}
    assert measured == {
        "weights": weights,
        "kv full": full,
        "kv sliding": sliding,
        "vision": table + 6 * MIB,
        "steering": steering,
        "inputs": 70 * MIB,
        "gathered": 0,
        "workspace": 90 * MIB,
        "graphs": 61 * MIB,
        "context": CONTEXT,
        "reserve": None,
    }
    assert measured_bytes(rows) == served.reserved + served.outside
    assert [row.name for row in rows] == [row.name for row in book.plan.rows]


def test_weights_in_place_are_counted_once() -> None:
    """An engine over weights that are there, in a process that holds other things too, measures its own alone."""
    weights, other = 5 * MIB, 300 * MIB
    start = reading(reserved=weights + other, tensors=weights + other)
    tensors = weights + other + 40 * MIB
    recorded = reading(reserved=tensors + 20 * MIB, tensors=tensors)
    book = ledger(start, recorded, recorded, held_bytes=weights)
    book.note("weights", weights)
    book.note_recorded()
    measured = {row.name: row.measured_bytes for row in book.measure()}
    assert (measured["weights"], measured["inputs"], measured["workspace"]) == (weights, 40 * MIB, 20 * MIB)


def test_a_context_beside_others_is_not_measured() -> None:
    """With another worker on the GPU the driver does not tell whose memory is whose; the plan's number stands."""
    book = ledger(reading(outside=9 * GIB), reading(outside=9 * GIB + MIB))
    measured = {row.name: row.measured_bytes for row in book.measure()}
    assert (measured["context"], measured["graphs"]) == (None, MIB)


def test_more_than_the_share_is_refused() -> None:
    """A worker that came out larger than its share says so row by row, and how large the reserve must be."""
    book = ledger(reading(), reading(reserved=22 * GIB, tensors=GIB))
    for name in ("weights", "kv full", "kv sliding", "steering"):
        book.note(name, 0)
    with pytest.raises(MemoryPlanError) as caught:
        book.measure()
    assert "the worker has taken 22.39 GiB and may take 21.60 GiB (weights 0 B, " in str(caught.value)
    assert "workspace 21.00 GiB" in str(caught.value)
    assert str(caught.value).endswith("; set memory.reserve to 1834MiB or more")


def test_on_a_cpu() -> None:
    """Weights and pages are known, the process is what is resident beside the weights, the rest is not measured."""
    start = Reading(total=16 * GIB, free=15 * GIB, reserved=GIB)
    book = ledger(start, Reading(total=16 * GIB, free=14 * GIB, reserved=2 * GIB), device="cpu")
    book.note("weights", 300 * MIB)
    book.note("kv full", 60 * MIB)
    measured = {row.name: row.measured_bytes for row in book.measure()}
    assert measured == {
        "weights": 300 * MIB,
        "kv full": 60 * MIB,
        "kv sliding": None,
        "vision": None,
        "steering": None,
        "workspace": None,
        "process": 2 * GIB - 300 * MIB,
    }
