"""What a worker tells of its memory when it is ready."""

from __future__ import annotations

from gemmad.generation import MemoryRow
from gemmad.protocol.messages import Ready
from tests.fakes.child import CAPACITY
from tests.fakes.clock import settle
from tests.process.supervised import captured_logs
from tests.unit.supervisor.stage import HELLO, Stage, play

ROWS = (MemoryRow("weights", 3 << 30, 2 << 30), MemoryRow("kv full", 1 << 30), MemoryRow("reserve", 1 << 30))


def test_where_its_memory_went_is_shown_and_logged() -> None:
    """From ready on the rows are part of its status; one event has their sums, and each as it is known best."""

    shown: list[tuple[MemoryRow, ...]] = []

    async def script(stage: Stage) -> None:
        for message in (HELLO, Ready(capacity=CAPACITY, pid=1, seconds=1.0, memory=ROWS)):
            stage.child.say(message)
            await settle()
            shown.append(stage.status.memory)

    with captured_logs() as events:
        play(script)
    assert shown == [(), ROWS]
    (told,) = [event for event in events if event["event"] == "worker memory"]
    assert {name: told[name] for name in ("worker", "life", "planned", "measured")} == {
        "worker": "cpu0",
        "life": 1,
        "planned": "5.00 GiB",
        "measured": "3.00 GiB",
    }
    assert (told["weights"], told["kv_full"], told["reserve"]) == ("2.00 GiB", "1.00 GiB", "1.00 GiB")
