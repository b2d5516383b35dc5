"""The clients of a measurement, in a process of their own: so cheap that they are not what is measured.

Each stream is read as bytes; what is looked for in them is the text of the tokens, nothing else. Prints `Figures` as
JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import time
from pathlib import Path

if not __package__:  # run by its path, from wherever
    sys.path[0] = str(Path(__file__).resolve().parents[2])

import msgspec
from msgspec import Struct

from tests.cost.figures import Figures, Word, contents, lateness
from tests.cost.worker import stamps_of

BEGIN_SECONDS = 30.0
"""For all streams to have begun."""
WARM_SECONDS = 2.0
TICKS = os.sysconf("SC_CLK_TCK")


class Task(Struct, frozen=True, kw_only=True):
    """What to do."""

    port: int
    model: str
    streams: int
    seconds: float
    daemon: int
    """Its process."""
    workers: dict[str, int]
    """Theirs, by name."""
    stamps: str
    words: dict[str, dict[str, int]]
    """For each worker, the index of each word that it says."""


class Stream(asyncio.Protocol):
    """One request, read for ever."""

    def __init__(self, request: bytes, begun: asyncio.Semaphore) -> None:
        self._request = request
        self._begun = begun
        self._rest = b""
        self.heard: list[tuple[float, list[bytes]]] = []
        self.over = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        now = time.monotonic()
        said, self._rest = contents(self._rest + data)
        if said:
            if not self.heard:
                self._begun.release()
            self.heard.append((now, said))

    def connection_lost(self, error: Exception | None) -> None:
        del error
        self.over = True


async def measure(task: Task) -> Figures:
    """Begin all streams, let them run for a while, and take note of a window of time."""
    loop, begun = asyncio.get_running_loop(), asyncio.Semaphore(0)
    streams: list[Stream] = []
    for _ in range(task.streams):
        _, stream = await loop.create_connection(lambda: Stream(request_of(task.model), begun), "127.0.0.1", task.port)
        streams.append(stream)
    async with asyncio.timeout(BEGIN_SECONDS):
        for _ in streams:
            await begun.acquire()
    await asyncio.sleep(WARM_SECONDS)
    pids = (task.daemon, os.getpid(), *task.workers.values())
    began, cpu_before = time.monotonic(), [cpu_seconds(pid) for pid in pids]
    await asyncio.sleep(task.seconds)
    ended, cpu_after = time.monotonic(), [cpu_seconds(pid) for pid in pids]
    if any(stream.over for stream in streams):
        raise SystemExit("a stream ended before its time")
    for stream in streams:
        stream.transport.abort()
    daemon, client, *workers = (after - before for before, after in zip(cpu_before, cpu_after, strict=True))
    heard = [item for stream in streams for item in stream.heard if began <= item[0] < ended]
    late = _lateness(task, heard)
    return Figures(
        seconds=ended - began,
        tokens=len(late),
        reads=len(heard),
        daemon_cpu_seconds=daemon,
        client_cpu_seconds=client,
        workers_cpu_seconds=sum(workers),
        late=late,
    )


def cpu_seconds(pid: int) -> float:
    """Of all threads of a process, in user and system mode."""
    stat = Path(f"/proc/{pid}/stat").read_text()
    user, system = stat[stat.rindex(")") + 2 :].split()[11:13]
    return (int(user) + int(system)) / TICKS


def _lateness(task: Task, heard: list[tuple[float, list[bytes]]]) -> tuple[float, ...]:
    stamps = {worker: list(stamps_of(Path(task.stamps, worker))) for worker in task.words}
    counts = {worker: sum(stamp > 0 for stamp in times) for worker, times in stamps.items()}
    table = {
        word.encode(): Word(worker, index) for worker, words in task.words.items() for word, index in words.items()
    }
    each = len(next(iter(task.words.values())))
    return tuple(
        lateness(at, table[word], stamps=stamps, counts=counts, words=each)
        for at, texts in heard
        for text in texts
        for word in text.split()
    )


def request_of(model: str) -> bytes:
    """A request for a reply without end."""
    body = msgspec.json.encode(
        {
            "model": model,
            "messages": [{"role": "user", "content": "Talk."}],
            "stream": True,
            "temperature": 0,
            "max_tokens": 100_000,
        }
    )
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: {len(body)}\r\n"
    return f"{head}content-type: application/json\r\n\r\n".encode() + body


def main() -> None:
    """Task in, figures out."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--task", required=True)
    task = msgspec.json.decode(parser.parse_args().task, type=Task)
    sys.stdout.buffer.write(msgspec.json.encode(asyncio.run(measure(task))))


if __name__ == "__main__":
    main()
