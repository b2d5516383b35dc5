"""uvicorn, as the daemon drives it: our sockets, our signals, our end."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import Generator, Sequence

import h11
import msgspec
import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from gemmad.api.errors import Envelope, ErrorBody
from gemmad.api.record import new_request_id
from gemmad.daemon.sockets import BACKLOG

KEEP_ALIVE_SECONDS = 75
"""Longer than clients keep an idle connection, so that they are the ones to close it, never just as a request comes."""
HEADERS_LIMIT_BYTES = 64 << 10
HEADERS_SECONDS = 30.0
"""Time for a request's headers to arrive, once they have begun."""
FLUSH_SECONDS = 3.0
"""Time for the last bytes of answers that are at their end."""
FIRST_WORD_SECONDS = 1.0
"""At the end: time for a connection that was accepted just now to say what it wants."""
LOOK_SECONDS = 0.02


class HttpServer:
    """Serves `app` on sockets that listen already. `protocol` speaks for each connection."""

    def __init__(
        self, app: ASGIApp, sockets: Sequence[socket.socket], *, protocol: type[H11Protocol] | None = None
    ) -> None:
        config = uvicorn.Config(
            app,
            http=protocol or HttpProtocol,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            backlog=BACKLOG,
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
            h11_max_incomplete_event_size=HEADERS_LIMIT_BYTES,
        )
        self._server = _Server(config)
        self._sockets = list(sockets)

    async def run(self) -> None:
        """Serve until `stop`."""
        await self._server.serve(self._sockets)

    async def stop(self) -> None:
        """Take no more connections, let the answers that are under way reach their clients, and return."""
        self._server.bell.set()
        await self._server.over.wait()

    def abort(self) -> None:
        """Hang up on everyone, now."""
        self._server.abort()


class _Server(uvicorn.Server):
    """uvicorn waits in steps of a tenth of a second, and takes the signals; neither fits here."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.bell = asyncio.Event()
        self.over = asyncio.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """The daemon has them."""
        yield

    async def main_loop(self) -> None:
        """Keep the Date header right until the bell rings."""
        while not self.bell.is_set():
            await self.on_tick(0)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(1.0):
                    await self.bell.wait()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop accepting, let idle connections go, and wait for the others no longer than it takes.

        Who connected just now is heard first: a connection that is closed with a request unread is one refused, and who
        comes later waits for the next daemon.
        """
        for sock in sockets or ():
            asyncio.get_running_loop().remove_reader(sock)
        await asyncio.sleep(LOOK_SECONDS)  # asyncio forgets whom it has accepted and not yet handed to an open server
        for server in self.servers:
            server.close()
        for sock in sockets or ():
            sock.close()
        seen: dict[object, float] = {}
        give_up = time.monotonic() + FLUSH_SECONDS
        while self._are_busy() and time.monotonic() < give_up:
            self._send_home(seen)
            await asyncio.sleep(LOOK_SECONDS)  # uvicorn's connections and tasks ring no bell when they end
        self.abort()
        self.over.set()

    def _send_home(self, seen: dict[object, float]) -> None:
        """Who has asked gets an answer and no more. `seen`: since when each one is known, so that a stall of ours, in
        which we hear nobody, is not held against the newcomers."""
        now = time.monotonic()
        for connection in list(self.server_state.connections):
            assert isinstance(connection, H11Protocol)
            if connection.cycle is not None or now - seen.setdefault(connection, now) >= FIRST_WORD_SECONDS:
                connection.shutdown()

    def _are_busy(self) -> bool:
        return bool(self.server_state.connections or self.server_state.tasks)

    def abort(self) -> None:
        """Whoever is still connected is not any more; their requests end by it."""
        for connection in list(self.server_state.connections):
            assert isinstance(connection, H11Protocol)
            connection.transport.abort()


class HttpProtocol(H11Protocol):
    """Bytes that are no HTTP are answered in OpenAI's shape too, and whoever does not get to the point is hung up on:
    uvicorn itself would wait for the rest of a header as long as it takes."""

    headers_seconds = HEADERS_SECONDS
    first_seconds = float(KEEP_ALIVE_SECONDS)
    """Time for a new connection to send anything."""
    _headers_due: asyncio.TimerHandle | None = None
    _headers_began = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A new connection."""
        super().connection_made(transport)
        self._headers_due = self.loop.call_later(self.first_seconds, self._hang_up)

    def connection_lost(self, exc: Exception | None) -> None:
        """It is over."""
        self._expect_no_headers()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """More of a request."""
        super().data_received(data)
        if self.conn.their_state is not h11.IDLE:
            self._expect_no_headers()
        elif not self._headers_began and not self.transport.is_closing():
            self._expect_no_headers()
            self._headers_began = True
            self._headers_due = self.loop.call_later(self.headers_seconds, self._hang_up)

    def _expect_no_headers(self) -> None:
        self._headers_began = False
        if self._headers_due is not None:
            self._headers_due.cancel()
            self._headers_due = None

    def _hang_up(self) -> None:
        self.transport.close()

    def send_400_response(self, msg: str) -> None:
        """Say so, and hang up."""
        if self.cycle is not None and not self.cycle.response_complete:  # the garbage is in a body that is being read
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        if self.conn.our_state not in (h11.IDLE, h11.SEND_RESPONSE):  # an answer is under way: nothing fits into it
            self.transport.close()
            return
        error = ErrorBody(message=msg, type="invalid_request_error", code="invalid_http")
        body = msgspec.json.encode(Envelope(error))
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
            (b"connection", b"close"),
            (b"x-request-id", new_request_id().encode()),
        ]
        for event in (
            h11.Response(status_code=400, headers=headers, reason=b"Bad Request"),
            h11.Data(data=body),
            h11.EndOfMessage(),
        ):
            self.transport.write(self.conn.send(event) or b"")
        self.transport.close()
