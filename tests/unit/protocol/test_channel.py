from __future__ import annotations

import asyncio
import os
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from gemmad.errors import ProtocolError
from gemmad.generation import Prompt, SamplingParams
from gemmad.logs import bind_request, bound_fields
from gemmad.protocol.channel import MAX_FDS, AsyncChannel, BlockingChannel
from gemmad.protocol.messages import Abort, Drain, FromWorker, Rejected, Shutdown, Submit, ToWorker

DEADLINE_SECONDS = 10


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """A socketpair with small buffers, so that large messages do not fit at once."""
    ours, theirs = socket.socketpair()
    for end in (ours, theirs):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        end.settimeout(DEADLINE_SECONDS)
    yield ours, theirs
    ours.close()
    theirs.close()


@pytest.fixture(autouse=True)
def _no_descriptor_is_left(pair: tuple[socket.socket, socket.socket]) -> Iterator[None]:
    before = set(os.listdir("/proc/self/fd"))
    yield
    for end in pair:
        end.close()
    assert set(os.listdir("/proc/self/fd")) <= before


def submit(tokens: int) -> Submit:
    return Submit(1, Prompt(tuple(range(tokens))), SamplingParams(max_tokens=1))


def memfd(content: bytes) -> int:
    fd = os.memfd_create("test")
    os.pwrite(fd, content, 0)
    return fd


def content_of(fd: int) -> bytes:
    try:
        return os.pread(fd, 100, 0)
    finally:
        os.close(fd)


class Daemon:
    """The daemon's end, and what it heard."""

    def __init__(self, sock: socket.socket, **how: Any) -> None:
        self.heard: list[Any] = []
        self.closings: list[str] = []
        self._changed = asyncio.Event()
        self.channel: AsyncChannel[Any] = AsyncChannel(
            sock, FromWorker, on_message=self._on_message, on_closed=self._on_closed, **how
        )

    async def until(self, condition: Callable[[Daemon], bool]) -> None:
        async with asyncio.timeout(DEADLINE_SECONDS):
            while not condition(self):
                self._changed.clear()
                await self._changed.wait()

    def _on_message(self, message: Any) -> None:
        self.heard.append(message)
        self._changed.set()

    def _on_closed(self, reason: str) -> None:
        self.closings.append(reason)
        self._changed.set()


Pair = tuple[socket.socket, socket.socket]


def test_blocking_ends_talk(pair: Pair) -> None:
    """Messages larger than the socket's buffer pass from one thread to another, in order; the end of file is None."""
    ours: BlockingChannel[Any] = BlockingChannel(pair[0], ToWorker)
    theirs: BlockingChannel[Any] = BlockingChannel(pair[1], ToWorker)
    sent = [submit(50_000), Abort(1), Drain()]

    def send() -> None:
        for message in sent:
            ours.send(message)
        ours.close()

    sender = threading.Thread(target=send)
    sender.start()
    assert [theirs.receive() for _ in range(4)] == [*sent, None]
    assert theirs.receive() is None
    sender.join(DEADLINE_SECONDS)


def test_descriptors_come_with_their_message(pair: Pair) -> None:
    """Each message's descriptors are taken in its order, when messages come in one read too, and close on exec."""
    ours: BlockingChannel[Any] = BlockingChannel(pair[0], ToWorker)
    theirs: BlockingChannel[Any] = BlockingChannel(pair[1], ToWorker)
    for number in range(3):
        fds = [memfd(b"%d-%d" % (number, index)) for index in range(number)]
        ours.send(Abort(number), fds)
        for fd in fds:
            os.close(fd)
    for number in range(3):
        assert theirs.receive() == Abort(number)
        taken = theirs.take_fds(number)
        assert not any(os.get_inheritable(fd) for fd in taken)
        assert [content_of(fd) for fd in taken] == [b"%d-%d" % (number, index) for index in range(number)]


def test_descriptors_that_did_not_come(pair: Pair) -> None:
    """A message that announces more descriptors than came breaks the protocol."""
    ours: BlockingChannel[Any] = BlockingChannel(pair[0], ToWorker)
    theirs: BlockingChannel[Any] = BlockingChannel(pair[1], ToWorker)
    ours.send(Abort(1))
    theirs.receive()
    with pytest.raises(ProtocolError, match="1 file descriptors announced, 0 came"):
        theirs.take_fds(1)


def test_descriptors_that_nobody_took_are_closed(pair: Pair) -> None:
    """Closing a channel closes the descriptors that came and were not taken."""
    ours: BlockingChannel[Any] = BlockingChannel(pair[0], ToWorker)
    theirs: BlockingChannel[Any] = BlockingChannel(pair[1], ToWorker)
    fd = memfd(b"")
    ours.send(Abort(1), [fd, fd])
    os.close(fd)
    theirs.receive()
    theirs.close()


def test_sending_to_nobody_from_a_thread(pair: Pair) -> None:
    """A worker that speaks to a daemon that is gone gets an OSError and no signal."""
    channel: BlockingChannel[Any] = BlockingChannel(pair[0], ToWorker)
    pair[1].close()
    with pytest.raises(OSError, match=r"."):
        channel.send(Abort(1))


def test_the_daemon_hears_and_says(pair: Pair) -> None:
    """Messages pass both ways between loop and thread, large ones with descriptors too."""
    worker: BlockingChannel[Any] = BlockingChannel(pair[1], ToWorker)
    got: list[Any] = []

    def work() -> None:
        message = worker.receive()
        got.append((message, [content_of(fd) for fd in worker.take_fds(2)], worker.receive()))
        worker.send(Rejected(1, "x" * 100_000))
        worker.send(Rejected(2, "y"))
        worker.close()

    async def scenario() -> list[Any]:
        daemon = Daemon(pair[0])
        thread = threading.Thread(target=work)
        fds = [memfd(b"first"), memfd(b"second")]
        daemon.channel.send(submit(50_000), fds)
        daemon.channel.send(Drain())
        for fd in fds:
            os.close(fd)  # the channel has its own
        thread.start()
        await daemon.until(lambda it: bool(it.closings))
        thread.join(DEADLINE_SECONDS)
        assert daemon.closings == ["end of file"]
        assert daemon.channel.closed
        return daemon.heard

    assert asyncio.run(scenario()) == [Rejected(1, "x" * 100_000), Rejected(2, "y")]
    assert got == [(submit(50_000), [b"first", b"second"], Drain())]


def test_the_daemon_takes_descriptors(pair: Pair) -> None:
    """Descriptors that a child sends are taken with its message; those nobody takes are closed with the channel."""
    child: BlockingChannel[Any] = BlockingChannel(pair[1], ToWorker)

    async def scenario() -> None:
        daemon = Daemon(pair[0])
        fds = [memfd(b"first"), memfd(b"second"), memfd(b"left")]
        child.send(Rejected(1, ""), fds)
        for fd in fds:
            os.close(fd)
        await daemon.until(lambda it: bool(it.heard))
        assert [content_of(fd) for fd in daemon.channel.take_fds(2)] == [b"first", b"second"]
        with pytest.raises(ProtocolError, match="2 file descriptors announced, 1 came"):
            daemon.channel.take_fds(2)
        daemon.channel.close()

    asyncio.run(scenario())


def test_garbage_ends_the_channel(pair: Pair) -> None:
    """What is no message closes the channel with the reason, after the good messages before it."""

    async def scenario() -> None:
        daemon = Daemon(pair[0])
        BlockingChannel[Any](pair[1], ToWorker).send(Rejected(1, "good"))
        pair[1].sendall(b"\x03\x00\x00\x00bad")
        await daemon.until(lambda it: bool(it.closings))
        assert daemon.closings[0].startswith("it broke the protocol: ")
        assert daemon.channel.broken
        assert daemon.heard in ([], [Rejected(1, "good")])  # one read may hold both

    asyncio.run(scenario())


def test_a_worker_that_reads_nothing(pair: Pair) -> None:
    """What a deaf worker leaves unread is bounded: then the channel closes, once, and its descriptors with it."""

    async def scenario() -> None:
        daemon = Daemon(pair[0], limit_bytes=100_000)
        fd = memfd(b"")
        for _ in range(1000):
            daemon.channel.send(submit(1000), [fd])
        os.close(fd)
        assert len(daemon.closings) == 1
        assert "unread" in daemon.closings[0]

    asyncio.run(scenario())


def test_a_slow_worker_gets_all(pair: Pair) -> None:
    """Many messages to a worker that reads late arrive whole and in order."""
    worker: BlockingChannel[Any] = BlockingChannel(pair[1], ToWorker)
    got: list[Any] = []

    def work() -> None:
        while not isinstance(message := worker.receive(), Shutdown):
            got.append(message)
        worker.send(Rejected(0, "done"))

    async def scenario() -> None:
        daemon = Daemon(pair[0])
        for number in range(2000):
            daemon.channel.send(Abort(number))
        daemon.channel.send(Shutdown())
        thread = threading.Thread(target=work)
        thread.start()
        await daemon.until(lambda it: bool(it.heard))
        thread.join(DEADLINE_SECONDS)
        daemon.channel.close()

    asyncio.run(scenario())
    assert got == [Abort(number) for number in range(2000)]


def test_closing_ourselves_calls_nobody(pair: Pair) -> None:
    """After close() nothing is called and nothing is sent, and closing again is allowed."""

    async def scenario() -> None:
        daemon = Daemon(pair[0])
        pair[1].sendall(b"garbage that is never read")
        daemon.channel.close()
        daemon.channel.close()
        daemon.channel.send(Abort(1))
        await asyncio.sleep(0)
        assert (daemon.heard, daemon.closings) == ([], [])

    asyncio.run(scenario())


def test_a_handler_may_close(pair: Pair) -> None:
    """A handler that closes the channel hears nothing more of what was read with its message."""

    async def scenario() -> None:
        heard: list[Any] = []

        def on_message(message: Any) -> None:
            heard.append(message)
            channel.close()
            done.set()

        done = asyncio.Event()
        worker: BlockingChannel[Any] = BlockingChannel(pair[1], ToWorker)
        worker.send(Rejected(1, ""))
        worker.send(Rejected(2, ""))
        channel: AsyncChannel[Any] = AsyncChannel(pair[0], FromWorker, on_message=on_message, on_closed=heard.append)
        await asyncio.wait_for(done.wait(), DEADLINE_SECONDS)
        await asyncio.sleep(0)
        assert heard == [Rejected(1, "")]

    asyncio.run(scenario())


def test_too_many_descriptors(pair: Pair) -> None:
    """A frame with more descriptors than may travel is refused to the sender, and the channel goes on."""
    worker: BlockingChannel[Any] = BlockingChannel(pair[1], ToWorker)

    async def scenario() -> None:
        daemon = Daemon(pair[0])
        fd = memfd(b"")
        with pytest.raises(ProtocolError, match="at most"):
            daemon.channel.send(Abort(1), [fd] * (MAX_FDS + 1))
        with pytest.raises(ProtocolError, match="at most"):
            worker.send(Abort(1), [fd] * (MAX_FDS + 1))
        daemon.channel.send(Abort(2), [fd] * MAX_FDS)
        os.close(fd)
        assert worker.receive() == Abort(2)
        for taken in worker.take_fds(MAX_FDS):
            os.close(taken)
        daemon.channel.close()

    asyncio.run(scenario())


def test_what_comes_of_a_message_is_nobodys(pair: tuple[socket.socket, socket.socket]) -> None:
    """A channel that is opened, or found closed, while one request is served logs nothing in that request's name."""
    ours, theirs = pair
    seen: list[dict[str, str]] = []

    async def main() -> None:
        over = asyncio.Event()

        def note(_said: object) -> None:
            seen.append(bound_fields())
            if len(seen) == 2:
                over.set()

        bind_request(request_id="mine")
        channel: AsyncChannel[FromWorker] = AsyncChannel(ours, FromWorker, on_message=note, on_closed=note)
        BlockingChannel(theirs, ToWorker).send(Rejected(1, "no"))
        theirs.shutdown(socket.SHUT_RDWR)
        async with asyncio.timeout(DEADLINE_SECONDS):
            await over.wait()
        channel.close()
        assert bound_fields() == {"request_id": "mine"}

    asyncio.run(main())
    assert seen == [{}, {}]
