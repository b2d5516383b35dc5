"""What a real worker tells of its memory."""

from __future__ import annotations

from gemmad.demo import CHECKPOINT
from gemmad.generation import MemoryRow
from gemmad.planning.shape import read_shape
from gemmad.protocol.messages import EXIT_SETTINGS, Dying, Ready
from tests.process.test_worker import DEADLINE_SECONDS, Worker


def test_a_cpu_worker_tells_where_its_memory_went() -> None:
    """Ready carries the plan's rows: weights to the byte, pages that were asked for, and the process as it is."""
    worker = Worker()
    try:
        worker.configure(kv_bytes=32 << 20, max_sequences=4)
        ready = worker.until(Ready)
    finally:
        worker.close()
    rows: dict[str, MemoryRow] = {row.name: row for row in ready.memory}
    assert list(rows) == ["weights", "kv full", "kv sliding", "vision", "steering", "workspace", "process"]
    weights = read_shape(CHECKPOINT).weight_bytes(4)
    assert rows["weights"] == MemoryRow("weights", weights, weights)
    pages = rows["kv full"].planned_bytes + rows["kv sliding"].planned_bytes
    assert 30 << 20 < pages <= 32 << 20
    assert rows["kv full"].measured_bytes == rows["kv full"].planned_bytes
    assert rows["kv sliding"].measured_bytes == rows["kv sliding"].planned_bytes
    process = rows["process"].measured_bytes
    assert process is not None
    assert 50 << 20 < process < 4 << 30


def test_what_cannot_fit_is_refused_with_numbers() -> None:
    """A worker whose pages cannot hold one sequence says how many bytes that takes, before it loads anything."""
    worker = Worker()
    try:
        worker.configure(kv_bytes=1 << 20)
        dying = worker.until(Dying)
        assert worker.process.wait(DEADLINE_SECONDS) == EXIT_SETTINGS
    finally:
        worker.close()
    assert dying.exit_code == EXIT_SETTINGS
    assert dying.reason.startswith("one sequence of 8192 tokens needs ")
    assert "and there are 1.00 MiB; to make it fit, set memory.kv_bytes to " in dying.reason
    assert "or engine.max_context to " in dying.reason
