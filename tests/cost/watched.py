"""Whether watching costs throughput: tokens that clients receive with and without dashboards and scrapes.

Workers say a fixed number of tokens a second, as a GPU does, which is what limits it. Windows with and without watchers
follow one another in one run, in the order A B B A, so that what drifts does not count.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import statistics
from collections.abc import AsyncIterator

from msgspec import Struct

from tests.cost.client import Stream, cpu_seconds, request_of

DASHBOARDS = 20
SCRAPE_SECONDS = 1.0
SETTLE_SECONDS = 1.0
BEGIN_SECONDS = 30.0


class Window(Struct, frozen=True, kw_only=True):
    """One stretch of time."""

    watched: bool
    tokens_per_second: float
    daemon_cpu: float
    """Cores."""


class Seen(Struct, kw_only=True):
    """What watchers were given."""

    snapshots: int = 0
    bytes: int = 0
    scrapes: int = 0


async def measure(
    port: int, model: str, *, daemon: int, streams: int, seconds: float, rounds: int
) -> tuple[list[Window], Seen]:
    """`rounds` times four windows of so many seconds. Raises TimeoutError if the streams do not begin."""
    loop, begun = asyncio.get_running_loop(), asyncio.Semaphore(0)
    talking: list[Stream] = []
    for _ in range(streams):
        _, stream = await loop.create_connection(lambda: Stream(request_of(model), begun), "127.0.0.1", port)
        talking.append(stream)
    async with asyncio.timeout(BEGIN_SECONDS):
        for _ in talking:
            await begun.acquire()
    windows, seen = [], Seen()
    try:
        for watched in itertools.chain.from_iterable([(False, True, True, False)] * rounds):
            async with _watchers(port, seen) if watched else contextlib.nullcontext():
                await asyncio.sleep(SETTLE_SECONDS)
                windows.append(await _window(talking, daemon, seconds=seconds, watched=watched))
    finally:
        for stream in talking:
            stream.transport.abort()
    return windows, seen


def rows(windows: list[Window], seen: Seen) -> dict[str, str]:
    """In words."""
    alone, watched = ([each for each in windows if each.watched is kind] for kind in (False, True))
    pairs = [b.tokens_per_second / a.tokens_per_second - 1 for a, b in zip(alone, watched, strict=True)]
    spread = f"{min(pairs):+.2%} to {max(pairs):+.2%}"
    return {
        "tokens a second": f"{_median(alone):.0f} alone, {_median(watched):.0f} watched",
        "change": f"{_median(watched) / _median(alone) - 1:+.2%}, of single pairs {spread}",
        "daemon's CPU": f"{_cpu(alone):.3f} cores alone, {_cpu(watched):.3f} watched",
        "watchers got": f"{seen.snapshots} snapshots, {seen.bytes / max(1, seen.snapshots) / 1e3:.1f} kB each, "
        f"{seen.scrapes} scrapes",
    }


def _median(windows: list[Window]) -> float:
    return statistics.median(each.tokens_per_second for each in windows)


def _cpu(windows: list[Window]) -> float:
    return statistics.median(each.daemon_cpu for each in windows)


async def _window(talking: list[Stream], daemon: int, *, seconds: float, watched: bool) -> Window:
    loop = asyncio.get_running_loop()
    for stream in talking:
        stream.heard.clear()
    began, cpu = loop.time(), cpu_seconds(daemon)
    await asyncio.sleep(seconds)
    took, spent = loop.time() - began, cpu_seconds(daemon) - cpu
    if any(stream.over for stream in talking):
        raise SystemExit("a stream ended before its time")
    tokens = sum(len(text.split()) for stream in talking for _, texts in stream.heard for text in texts)
    return Window(watched=watched, tokens_per_second=tokens / took, daemon_cpu=spent / took)


@contextlib.asynccontextmanager
async def _watchers(port: int, seen: Seen) -> AsyncIterator[None]:
    tasks = [asyncio.create_task(_look(port, seen)) for _ in range(DASHBOARDS)]
    tasks.append(asyncio.create_task(_scrape(port, seen)))
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _look(port: int, seen: Seen) -> None:
    reader, writer = await _ask(port, "/dashboard/events")
    with contextlib.closing(writer):
        while got := await reader.read(1 << 20):
            seen.bytes += len(got)
            seen.snapshots += got.count(b"event: snapshot")


async def _scrape(port: int, seen: Seen) -> None:
    while True:
        reader, writer = await _ask(port, "/metrics")
        with contextlib.closing(writer):
            await reader.read()
        seen.scrapes += 1
        await asyncio.sleep(SCRAPE_SECONDS)


async def _ask(port: int, path: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 22)
    writer.write(f"GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n".encode())
    return reader, writer
