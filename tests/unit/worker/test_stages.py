"""How long each stage of a worker's start took."""

from __future__ import annotations

from gemmad.worker.stages import StageClock


def test_stages_add_up() -> None:
    """Each stage lasts until the next one begins; one that comes back goes on, and the names are those of fields."""
    times = iter([3.0, 4.5, 5.0, 7.0, 9.0])
    stages = StageClock(started=1.0, clock=lambda: next(times))
    for stage in ["imports", "weights", "weights", "memory", "weights", "warm-up", "warm-up"]:
        stages.enter(stage)
    seconds = stages.seconds()
    assert seconds == {"imports": 2.0, "weights": 1.5 + 2.0, "memory": 0.5, "warm_up": 2.0}
    assert list(seconds) == ["imports", "weights", "memory", "warm_up"]
