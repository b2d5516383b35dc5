"""Connections that do not get to the point."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from gemmad.config.schema import ServerSection
from gemmad.daemon.server import HttpProtocol, HttpServer
from gemmad.daemon.sockets import listen

HEAD = b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\n"


class Impatient(HttpProtocol):
    headers_seconds = 0.2
    first_seconds = 0.2


async def echo(request: Request) -> Response:
    return PlainTextResponse(await request.body())


def served(scenario: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]) -> None:
    """Runs it with a connection to a server that is out of patience soon."""

    async def run() -> None:
        app = Starlette(routes=[Route("/", echo, methods=["POST"])])
        with listen(ServerSection(port=0)) as listening:
            server = HttpServer(app, listening.sockets, protocol=Impatient)
            async with asyncio.TaskGroup() as group, asyncio.timeout(20):
                group.create_task(server.run())
                reader, writer = await asyncio.open_connection("127.0.0.1", int(listening.url.rpartition(":")[2]))
                await scenario(reader, writer)
                writer.close()
                with contextlib.suppress(OSError):
                    await writer.wait_closed()
                await server.stop()

    asyncio.run(run())


async def drip(writer: asyncio.StreamWriter, data: bytes, *, pause_seconds: float) -> None:
    for byte in data:
        writer.write(bytes([byte]))
        await asyncio.sleep(pause_seconds)


def test_nothing_at_all() -> None:
    """A connection that says nothing is hung up on."""

    async def scenario(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        assert await reader.read() == b""

    served(scenario)


def test_headers_in_drops() -> None:
    """Headers that come drop by drop have the time of all headers together, however busy they look."""

    async def scenario(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        dripping = asyncio.create_task(drip(writer, HEAD * 100, pause_seconds=0.02))
        with contextlib.suppress(ConnectionResetError):
            assert await reader.read() == b""
        dripping.cancel()

    served(scenario)


def test_a_slow_body_is_no_slow_head() -> None:
    """Once the headers are there, a request may take longer; and so may a second one that begins in time."""

    async def scenario(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in range(2):
            writer.write(HEAD + b"\r\n")
            await drip(writer, b"slow", pause_seconds=0.1)
            assert b"200 OK" in await reader.readuntil(b"\r\n\r\n")
            assert await reader.readexactly(4) == b"slow"

    served(scenario)


def test_a_second_head_in_drops() -> None:
    """The next request of a connection has no more time for its headers than the first."""

    async def scenario(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(HEAD + b"\r\nfast")
        await reader.readuntil(b"\r\n\r\nfast")
        writer.write(b"POST / HT")
        with contextlib.suppress(ConnectionResetError):
            assert await reader.read() == b""

    served(scenario)


def test_the_end_hears_newcomers_out() -> None:
    """Whoever has connected and not yet spoken when the end comes is answered; idle ones and silent ones are hung up
    on."""

    async def run() -> None:
        app = Starlette(routes=[Route("/", echo, methods=["POST"])])
        with listen(ServerSection(port=0)) as listening:
            server = HttpServer(app, listening.sockets)
            async with asyncio.TaskGroup() as group, asyncio.timeout(20):
                group.create_task(server.run())
                port = int(listening.url.rpartition(":")[2])
                (idle, ask), (late, say), (silent, hang) = [
                    await asyncio.open_connection("127.0.0.1", port) for _ in range(3)
                ]
                ask.write(HEAD + b"\r\nfast")
                await idle.readuntil(b"\r\n\r\nfast")
                stopping = group.create_task(server.stop())
                assert await idle.read() == b""
                assert not stopping.done()
                say.write(HEAD + b"\r\nlate")
                answer = await late.read()
                assert b"200 OK" in answer
                assert answer.endswith(b"late")
                assert await silent.read() == b""
                await stopping
                for writer in (ask, say, hang):
                    writer.close()
                    await writer.wait_closed()

    asyncio.run(run())


@pytest.mark.parametrize("turns", range(4))
def test_whoever_was_accepted_is_answered(turns: int) -> None:
    """A connection that is accepted in the very moment of the end gets its answer; one that is not waits for the next
    daemon."""

    async def run() -> None:
        app = Starlette(routes=[Route("/", echo, methods=["POST"])])
        with listen(ServerSection(port=0)) as listening, listening.sockets[0].dup() as kept:
            server = HttpServer(app, listening.sockets)
            async with asyncio.TaskGroup() as group, asyncio.timeout(20):
                group.create_task(server.run())
                await asyncio.sleep(0.05)
                client = socket.create_connection(kept.getsockname())  # the kernel takes it, the server not yet
                for _ in range(turns):
                    await asyncio.sleep(0)
                stopping = group.create_task(server.stop())
                await asyncio.sleep(0.1)
                client.sendall(HEAD + b"Connection: close\r\n\r\nlate")
                await stopping
            with client:
                client.settimeout(5)
                try:
                    waiting, _ = kept.accept()
                    waiting.close()
                except BlockingIOError:
                    assert client.recv(1000).startswith(b"HTTP/1.1 200 OK")

    asyncio.run(run())
