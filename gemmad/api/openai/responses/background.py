"""Responses that are made while nobody waits, and streams that can be left and taken up again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import aclosing, suppress

from starlette.types import Receive, Scope, Send

from gemmad.api.disconnect import unless_gone
from gemmad.api.errors import GONE, ClientGoneError, answer
from gemmad.api.openai.responses import wire
from gemmad.api.openai.responses.teller import Teller
from gemmad.api.reply import Reply
from gemmad.api.stream import HEADERS, STALLED_SECONDS
from gemmad.errors import GemmadError
from gemmad.logs import get_logger

PING = b": ping\n\n"

_log = get_logger(__name__)


class Tape:
    """Events of a stream, by sequence number, for as many readers as there are."""

    def __init__(self, events: Sequence[bytes] = (), *, over: bool = False) -> None:
        self.events = list(events)
        self.over = over
        self._bell = asyncio.Event()

    def write(self, events: Sequence[wire.Event]) -> None:
        """More of them."""
        self.events.extend(map(wire.sse, events))
        self._ring()

    def end(self) -> None:
        """No more will come."""
        self.over = True
        self._ring()

    async def changed(self, *, seconds: float) -> bool:
        """Wait for more, or the end; False if neither came in time."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._bell.wait()
            return True
        return False

    def _ring(self) -> None:
        self._bell.set()
        self._bell = asyncio.Event()


class Run:
    """A reply that is read to its end, whoever listens. It is over at the latest when the dispatcher closes, which ends
    all replies."""

    def __init__(self, reply: Reply, teller: Teller, *, taped: bool, ended: Callable[[str | None], None]) -> None:
        """`ended` is told how: the code of the error that ended it, or None."""
        self.teller = teller
        self.tape = Tape() if taped else None
        self._reply = reply
        self._ended = ended
        self._error: str | None = None
        self._task = asyncio.get_running_loop().create_task(self._work(), name=teller.response.id)
        self._task.add_done_callback(self._settle)  # a task that is cancelled before its first step runs no `finally`

    def cancel(self) -> None:
        """The rest is not wanted; the response says so at once."""
        if not self._task.done():
            self.teller.cancel()
            self._error = GONE
            self._task.cancel()

    async def _work(self) -> None:
        try:
            self._tell(self.teller.begin())
            async with aclosing(self._reply.pieces()) as batches:
                async for pieces in batches:
                    for piece in pieces:
                        self._tell(self.teller.hear(piece))
            self._tell(self.teller.end(self._reply.usage))
        except GemmadError as error:
            self._fail(error)
        except Exception as error:
            _log.exception("background response crashed", id=self.teller.response.id)
            self._fail(error)

    def _fail(self, error: Exception) -> None:
        self._error = answer(error).error.code or "error"
        self._tell(self.teller.fail(error))

    def _tell(self, events: Sequence[wire.Event]) -> None:
        if self.tape is not None:
            self.tape.write(events)

    def _settle(self, _task: asyncio.Task[None]) -> None:
        self._reply.close()
        self._ended(self._error)
        if self.tape is not None:
            self.tape.end()


class TapeStream:
    """The ASGI response that plays a tape. A client that leaves changes nothing for the tape."""

    def __init__(self, tape: Tape, *, start: int, ping_seconds: float) -> None:
        """`start` is the sequence number of the first event that is sent."""
        self._tape = tape
        self._start = start
        self._ping_seconds = ping_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Play it to its end, or until the client leaves or takes nothing for too long."""
        del scope
        with suppress(ClientGoneError, TimeoutError):
            await unless_gone(receive, self._play(send))

    async def _play(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
        tape, position = self._tape, self._start
        while True:
            events = b"".join(tape.events[position:])
            position = max(position, len(tape.events))
            if events:
                await self._send(send, events)
            elif tape.over:
                break
            elif not await tape.changed(seconds=self._ping_seconds):
                await self._send(send, PING)
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _send(self, send: Send, events: bytes) -> None:
        async with asyncio.timeout(STALLED_SECONDS):
            await send({"type": "http.response.body", "body": events, "more_body": True})
