"""After warm-up a worker allocates nothing."""

from __future__ import annotations

import random

import pytest
import torch

from gemmad.demo import CHECKPOINT
from gemmad.engine.build import build_engine
from gemmad.generation import EngineLoad, EngineSettings
from tests.gpu.traffic import Traffic

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]


def _assert_nothing_is_allocated(seconds: float) -> None:
    settings = EngineSettings(
        checkpoint=str(CHECKPOINT),
        device="cuda:0",
        max_context=1300,
        max_step_tokens=256,
        max_sequences=24,
        kv_bytes=2 << 20,  # so few pages that sequences are preempted
    )
    engine = build_engine(settings, progress=lambda *_: None)
    engine.warm_up()
    before, stats = engine.load(), torch.cuda.memory_stats()
    traffic = Traffic(engine, random.Random(5), vocabulary=1000, image_tokens=16)
    traffic.run(seconds)
    after = engine.load()
    assert (traffic.pictures > 0, traffic.aborted > 0, traffic.finished > 0) == (True, True, True)
    assert after.preemptions > 0
    assert _taken(after) == _taken(before)
    now = torch.cuda.memory_stats()
    for name in ("segment.all.allocated", "segment.all.freed", "reserved_bytes.all.peak", "num_alloc_retries"):
        assert now[name] == stats[name], name
    assert now["allocated_bytes.all.current"] == stats["allocated_bytes.all.current"]


def _taken(load: EngineLoad) -> tuple[int, int]:
    return load.device_segments, load.device_bytes


def test_mixed_traffic_takes_no_new_segment() -> None:
    """Short, long, pictures, aborts and preemptions for a while leave the allocator's counters where they were."""
    _assert_nothing_is_allocated(20)


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_ten_minutes_of_mixed_traffic_take_no_new_segment() -> None:
    """The same for ten minutes."""
    _assert_nothing_is_allocated(600)
