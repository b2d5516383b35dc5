"""A worker that does nothing but talk: one token for each stream in every step, at a steady pace.

When it says a token it notes the time, in a file that the client's side reads afterwards: the token's id tells the
step, and the clock is the machine's own (CLOCK_MONOTONIC), so from there to the client's receipt is a subtraction.
"""

from __future__ import annotations

import argparse
import mmap
import os
import queue
import socket
import sys
import threading
import time
from pathlib import Path
from typing import NoReturn

if not __package__:  # run by its path, from wherever
    sys.path[0] = str(Path(__file__).resolve().parents[2])

import msgspec
from msgspec import Struct

from gemmad.generation import Capacity, EngineLoad, FinishReason
from gemmad.protocol.channel import BlockingChannel
from gemmad.protocol.messages import (
    EXIT_ASKED,
    PROTOCOL_VERSION,
    Abort,
    Configure,
    Drain,
    Heartbeat,
    Loading,
    Output,
    Ready,
    Shutdown,
    Stepped,
    Submit,
    ToWorker,
)
from gemmad.worker.parent import die_with_parent

STEPS = 1 << 16
"""The most that it takes note of."""
STAMP_BYTES = 8
HEARTBEAT_SECONDS = 1.0
MAX_CONTEXT = 1 << 20


class Plan(Struct, frozen=True, kw_only=True):
    """How it talks."""

    step_seconds: float
    streams: int
    token_ids: dict[str, tuple[int, ...]]
    """For each worker, by its name: said one after another, over and over, one in each step, the same to all."""
    stamps: str
    """Folder for the times of its steps."""


def command(plan: Plan) -> tuple[str, ...]:
    """The command line for a pool."""
    return sys.executable, str(Path(__file__).resolve()), "--plan", msgspec.json.encode(plan).decode()


class Talker:
    """One life. The main thread talks; one other reads the wire."""

    def __init__(self, channel: BlockingChannel[ToWorker], plan: Plan) -> None:
        self._channel = channel
        self._plan = plan
        self._inbox: queue.SimpleQueue[ToWorker] = queue.SimpleQueue()
        self._left: dict[int, int] = {}
        """Tokens that each stream still gets."""
        self._beat_at = 0.0

    def run(self) -> NoReturn:
        """Until it is told to exit."""
        first = self._channel.receive()
        if not isinstance(first, Configure):
            os._exit(EXIT_ASKED)
        stamps = stamps_of(Path(self._plan.stamps, first.worker), create=True)
        self._channel.send(Loading(PROTOCOL_VERSION, "imports", 0.0))
        capacity = Capacity(
            max_context=MAX_CONTEXT,
            max_sequences=self._plan.streams,
            max_step_tokens=2048,
            page_tokens=16,
            full_pages=MAX_CONTEXT * self._plan.streams // 16,
            sliding_pages=1024,
        )
        self._channel.send(Ready(capacity=capacity, pid=os.getpid(), seconds=0.0))
        threading.Thread(target=self._read, daemon=True).start()
        self._talk(self._plan.token_ids[first.worker], stamps)

    def _talk(self, token_ids: tuple[int, ...], stamps: memoryview[float]) -> NoReturn:
        step, at = 0, time.monotonic()
        while True:
            at += self._plan.step_seconds
            time.sleep(max(0.0, at - time.monotonic()))
            while not self._inbox.empty():
                self._take(self._inbox.get())
            if self._left:
                outputs = self._outputs(token_ids[step % len(token_ids)])
                stamps[step] = time.monotonic()
                self._channel.send(Stepped(step, outputs))
                step += 1
            if at >= self._beat_at:
                self._beat_at = at + HEARTBEAT_SECONDS
                self._channel.send(Heartbeat(EngineLoad(steps=step, running=len(self._left))))

    def _outputs(self, token_id: int) -> tuple[Output, ...]:
        outputs = []
        for number, left in list(self._left.items()):
            self._left[number] = left - 1
            outputs.append(Output(number, (token_id,), FinishReason.LENGTH if left == 1 else None))
            if left == 1:
                del self._left[number]
        return tuple(outputs)

    def _take(self, message: ToWorker) -> None:
        match message:
            case Submit():
                self._left[message.request_id] = message.sampling.max_tokens
            case Abort(request_id):
                self._left.pop(request_id, None)
            case _:
                pass

    def _read(self) -> None:
        while (message := self._channel.receive()) is not None and not isinstance(message, Shutdown | Drain):
            self._inbox.put(message)
        os._exit(EXIT_ASKED)


def stamps_of(path: Path, *, create: bool = False) -> memoryview[float]:
    """The moments of a worker's steps as float64, 0 for those that have not been."""
    flags = os.O_RDWR | (os.O_CREAT if create else 0)
    fd = os.open(path, flags, 0o600)
    try:
        os.ftruncate(fd, STEPS * STAMP_BYTES)
        return memoryview(mmap.mmap(fd, STEPS * STAMP_BYTES)).cast("d")
    finally:
        os.close(fd)


def main() -> NoReturn:
    """One life, over the socket that the daemon hands down."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--fd", type=int, required=True)
    parser.add_argument("--plan", required=True)
    arguments = parser.parse_args()
    die_with_parent()
    sock = socket.socket(fileno=arguments.fd)
    sock.set_inheritable(False)
    channel: BlockingChannel[ToWorker] = BlockingChannel(sock, ToWorker)
    try:
        Talker(channel, msgspec.json.decode(arguments.plan, type=Plan)).run()
    except (BrokenPipeError, ConnectionResetError):  # the daemon is gone
        os._exit(EXIT_ASKED)


if __name__ == "__main__":
    main()
