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
FLUSH_SECONDS = 3.0
"""Time for the last bytes of answers that are at their end."""
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
        """Stop accepting, let idle connections go, and wait for the others no longer than it takes."""
        for server in self.servers:
            server.close()
        for sock in sockets or ():
            sock.close()
        for connection in list(self.server_state.connections):
            connection.shutdown()
        give_up = time.monotonic() + FLUSH_SECONDS
        # uvicorn's connections and tasks ring no bell when they end
        while (self.server_state.connections or self.server_state.tasks) and time.monotonic() < give_up:  # noqa: ASYNC110
            await asyncio.sleep(LOOK_SECONDS)
        self.abort()
        self.over.set()

    def abort(self) -> None:
        """Whoever is still connected is not any more; their requests end by it."""
        for connection in list(self.server_state.connections):
            assert isinstance(connection, H11Protocol)
            connection.transport.abort()


class HttpProtocol(H11Protocol):
    """Bytes that are no HTTP are answered in OpenAI's shape too."""

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
