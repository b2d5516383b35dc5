"""The feed, on a clock that jumps: who is told what, how often it is looked, and when it rests."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from starlette.types import Message

from gemmad.api.dashboard.feed import PING, STALLED_SECONDS, EventStream, Feed, Listener
from gemmad.api.dashboard.snapshot import LivePoints, Snapshot
from gemmad.api.dashboard.watched import Watched
from gemmad.api.operator import Operator
from gemmad.api.services import Services
from gemmad.config.schema import DispatchSection, ModelSection
from gemmad.dispatch.dispatcher import Dispatcher
from gemmad.errors import UnavailableError
from gemmad.metrics import Metrics, Reading
from gemmad.monitor.live import LivePoint
from gemmad.monitor.tail import LogLine
from tests.fakes.clock import run_virtually, settle

POINT = LivePoint(
    at=1.0, running=1, waiting=0, tokens_per_second=2.0, prompt_tokens_per_second=0.0, ttft_p50=None, ttft_p95=None
)


class Room:
    """A feed over a daemon without workers, whose log the test writes."""

    def __init__(self, clock: Callable[[], float], *, most: int = 64) -> None:
        unused: Any = None
        self.looks = 0
        self.is_broken = False
        self.lines: list[LogLine] = []
        section, model = DispatchSection(), ModelSection(served_names=("gemma",))
        services = Services(
            version="1.2.3",
            served=lambda: None,
            dispatcher=Dispatcher(section=lambda: section, clock=clock),
            workers=tuple,
            metrics=Metrics(lambda: Reading(version="1.2.3")),
            server=unused,
            model=lambda: model,
            sampling=unused,
            media=unused,
            max_context=lambda: None,
            watched=Watched(live=self._live, log=self._log, looked_at=self._looked_at),
            clock=clock,
        )
        self.feed = Feed(Operator(services), most=most)

    def say(self) -> None:
        number = len(self.lines) + 1
        self.lines.append(LogLine(number=number, at="", level="info", logger="x", event="said", fields={}))

    def _live(self) -> tuple[LivePoint, ...]:
        if self.is_broken:
            raise RuntimeError("a fault of ours")
        return (POINT,)

    def _log(self, after: int) -> tuple[LogLine, ...]:
        return tuple(self.lines[after:])

    def _looked_at(self) -> None:
        self.looks += 1


class Reader:
    """One who listens from a task of the test's group, and what they were told."""

    def __init__(self, room: Room, *, may_act: bool = False, is_welcome: Callable[[], bool] = lambda: True) -> None:
        self.events: list[bytes] = []
        self._stream = EventStream(room.feed, may_act=may_act, is_welcome=is_welcome)
        self.gone = asyncio.Event()
        self.reads = asyncio.Event()
        self.reads.set()
        self.is_over = False

    async def run(self) -> None:
        await self._stream({"type": "http"}, self._receive, self._send)

    @property
    def snapshots(self) -> list[Snapshot]:
        return [decoded(event) for event in self.events if event != PING]

    async def _send(self, message: Message) -> None:
        await self.reads.wait()
        if message["type"] == "http.response.body":
            self.is_over = not message["more_body"]
            if message["body"]:
                self.events.append(message["body"])

    async def _receive(self) -> Message:
        await self.gone.wait()
        return {"type": "http.disconnect"}


def decoded(event: bytes) -> Snapshot:
    """The snapshot that bytes end with."""
    head, _, data = event.rpartition(b"event: snapshot\ndata: ")
    assert data.endswith(b"\n\n")
    if head:
        points = head.removeprefix(b"event: live\ndata: ").removesuffix(b"\n\n")
        assert msgspec.json.decode(points, type=LivePoints).points == (POINT,)
    return msgspec.json.decode(data, type=Snapshot)


def play(script: Callable[[Room, asyncio.TaskGroup], Any], **options: Any) -> None:
    async def main(clock: Callable[[], float]) -> None:
        async with asyncio.TaskGroup() as group:
            await script(Room(clock, **options), group)

    run_virtually(main)


def test_all_are_told_the_same_bytes() -> None:
    """However many listen, it is looked once a second, and who may act is told so and nothing else differently."""

    async def script(room: Room, group: asyncio.TaskGroup) -> None:
        readers = [Reader(room, may_act=number == 0) for number in range(5)]
        tasks = [group.create_task(reader.run()) for reader in readers]
        await asyncio.sleep(10.5)
        first, *others = readers
        assert len(first.events) == 11  # one at once, and one each second
        assert room.looks == 11
        for reader in others:
            assert len(reader.events) == 11
            assert all(ours is theirs for ours, theirs in zip(others[0].events, reader.events, strict=True))
        assert all(snapshot.may_act for snapshot in first.snapshots)
        for ours, theirs in zip(first.snapshots, others[0].snapshots, strict=True):
            assert msgspec.structs.replace(ours, may_act=False) == theirs
        for task in tasks:
            task.cancel()

    play(script)


def test_nobody_listens() -> None:
    """Before the first and after the last listener nothing is looked at, and nothing is left to do."""

    async def script(room: Room, group: asyncio.TaskGroup) -> None:
        await asyncio.sleep(100)
        assert room.looks == 0
        for _ in range(2):
            reader = Reader(room)
            task = group.create_task(reader.run())
            await asyncio.sleep(2.5)
            reader.gone.set()
            await task
        looks = room.looks
        await asyncio.sleep(100)
        assert room.looks == looks == 6

    play(script)


def test_the_log_without_gaps() -> None:
    """Each listener gets each line once: the last ones at first, then what is new, whoever came earlier or later."""

    async def script(room: Room, group: asyncio.TaskGroup) -> None:
        for _ in range(300):
            room.say()
        readers, tasks = [], []
        for _ in range(20):
            readers.append(Reader(room))
            tasks.append(group.create_task(readers[-1].run()))
            for _ in range(3):
                room.say()
                await asyncio.sleep(0.11)
        await asyncio.sleep(2)
        for reader in readers:
            numbers = [line.number for snapshot in reader.snapshots for line in snapshot.log]
            assert numbers == list(range(numbers[0], 361))
            assert 190 <= len(reader.snapshots[0].log) <= 200  # what came since the last look is told with the next
        for task in tasks:
            task.cancel()

    play(script)


def test_a_slow_listener() -> None:
    """Who does not take an event finds the newest one afterwards; nobody else waits for them."""

    async def script(room: Room, group: asyncio.TaskGroup) -> None:
        slow, quick = Reader(room), Reader(room)
        tasks = [group.create_task(reader.run()) for reader in (slow, quick)]
        await asyncio.sleep(2.5)
        slow.reads.clear()
        await asyncio.sleep(20)
        slow.reads.set()
        await asyncio.sleep(1)
        assert len(quick.events) == 24
        assert len(slow.events) == 3 + 3  # what was held up, what waited behind it, and the next one
        assert slow.events[-1] is quick.events[-1]
        for task in tasks:
            task.cancel()

    play(script)


def test_a_listener_that_never_reads() -> None:
    """Their place is free again after a minute."""

    async def script(room: Room, group: asyncio.TaskGroup) -> None:
        reader = Reader(room)
        task = group.create_task(reader.run())
        await asyncio.sleep(0.5)
        reader.reads.clear()
        began = asyncio.get_running_loop().time()
        await task
        assert asyncio.get_running_loop().time() - began == pytest.approx(STALLED_SECONDS + 0.5)
        looks = room.looks
        await asyncio.sleep(10)
        assert room.looks == looks

    play(script, most=1)


def test_there_are_places_for_so_many() -> None:
    """One too many is told to come back; a place that is left is another's."""

    async def script(room: Room, group: asyncio.TaskGroup) -> None:
        readers = [Reader(room) for _ in range(3)]
        tasks = [group.create_task(reader.run()) for reader in readers[:2]]
        await settle()
        with pytest.raises(UnavailableError, match="has 2 listeners already"):
            await readers[2].run()
        readers[0].gone.set()
        await tasks[0]
        task = group.create_task(readers[2].run())
        await settle()
        assert len(readers[2].events) == 1
        tasks[1].cancel()
        task.cancel()

    play(script, most=2)


def test_who_is_not_welcome_any_more() -> None:
    """A stream ends within a second of its reason, before another snapshot is sent."""

    async def script(room: Room, group: asyncio.TaskGroup) -> None:
        welcome = [True]
        reader = Reader(room, is_welcome=lambda: welcome[0])
        task = group.create_task(reader.run())
        await asyncio.sleep(2.5)
        welcome.clear()
        welcome.append(False)
        await task
        assert reader.is_over
        assert len(reader.events) == 3

    play(script)


def test_the_daemon_stops() -> None:
    """Everyone's stream ends at once, and nobody new is taken."""

    async def script(room: Room, group: asyncio.TaskGroup) -> None:
        reader = Reader(room)
        task = group.create_task(reader.run())
        await asyncio.sleep(0.5)
        room.feed.close()
        await task
        assert reader.is_over
        with pytest.raises(UnavailableError, match="stops"):
            await Reader(room).run()
        assert room.looks == 1

    play(script)


def test_a_fault_of_ours() -> None:
    """While it cannot be looked, listeners are told that the stream lives; then it goes on."""

    async def script(room: Room, group: asyncio.TaskGroup) -> None:
        reader = Reader(room)
        task = group.create_task(reader.run())
        await asyncio.sleep(0.5)
        room.is_broken = True
        await asyncio.sleep(2)
        room.is_broken = False
        await asyncio.sleep(1)
        assert [event == PING for event in reader.events] == [False, True, True, False]
        task.cancel()

    play(script)


def test_after_a_stall() -> None:
    """If the loop stood still, it is looked once afterwards and not once for each second."""

    async def script(room: Room, group: asyncio.TaskGroup) -> None:
        reader = Reader(room)
        task = group.create_task(reader.run())
        await asyncio.sleep(0.5)
        loop: Any = asyncio.get_running_loop()
        loop._jump(30.0)
        await asyncio.sleep(0.9)
        assert room.looks <= 3
        task.cancel()

    play(script)


def test_a_listener_that_ends_while_an_event_waits() -> None:
    """What waits is not sent after the end."""

    async def script(room: Room, group: asyncio.TaskGroup) -> None:
        del room, group
        listener = Listener(may_act=False)
        listener.offer(b"late")
        listener.end()
        assert [event async for event in listener.events()] == []

    play(script)
