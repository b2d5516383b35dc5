"""The two ends of a worker's socketpair: `AsyncChannel` in the daemon's loop, `BlockingChannel` in a worker's threads.

File descriptors ride on the first bytes of the frame they belong to. The kernel never delivers them later than those
bytes and keeps their order, so a first-in first-out queue pairs them with their frames again.
"""

from __future__ import annotations

import array
import asyncio
import collections
import contextvars
import os
import socket
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

import msgspec

from gemmad.errors import ProtocolError
from gemmad.protocol.framing import FrameDecoder, encode_frame

READ_BYTES = 256 << 10
MAX_FDS = 64
"""File descriptors in one frame at most; the kernel's own limit is 253."""

T = TypeVar("T")


class BlockingChannel(Generic[T]):
    """A worker's end: one thread may receive while another sends."""

    def __init__(self, sock: socket.socket, union: Any) -> None:
        self._sock = sock
        self._decoder: FrameDecoder[T] = FrameDecoder(union)
        self._messages: collections.deque[T] = collections.deque()
        self._fds: collections.deque[int] = collections.deque()

    def send(self, message: msgspec.Struct, fds: Sequence[int] = ()) -> None:
        """Write one frame, waiting for room. Raises OSError when the other end is gone."""
        data = memoryview(encode_frame(message))
        sent = _send_with_fds(self._sock, data, fds)
        if sent < len(data):
            self._sock.sendall(data[sent:])

    def receive(self) -> T | None:
        """The next message, or None at end of file. Raises ProtocolError on garbage."""
        while not self._messages:
            try:
                data, ancillary, flags, _ = self._sock.recvmsg(
                    READ_BYTES, socket.CMSG_SPACE(MAX_FDS * 4), socket.MSG_CMSG_CLOEXEC
                )
            except ConnectionResetError:  # closed over there, with something unread
                return None
            self._fds.extend(_received_fds(ancillary))
            if flags & socket.MSG_CTRUNC:
                raise ProtocolError("file descriptors were lost on the way (the process is at its limit)")
            if not data:
                return None
            self._messages.extend(self._decoder.feed(data))
        return self._messages.popleft()

    def take_fds(self, count: int) -> list[int]:
        """The next `count` descriptors, now the caller's to close. Raises ProtocolError when fewer came."""
        if len(self._fds) < count:
            raise ProtocolError(f"{count} file descriptors announced, {len(self._fds)} came")
        return [self._fds.popleft() for _ in range(count)]

    def close(self) -> None:
        """Close the socket and every descriptor that nobody took."""
        while self._fds:
            os.close(self._fds.popleft())
        self._sock.close()


class AsyncChannel(Generic[T]):
    """The daemon's end. Nothing here waits: what the socket does not take now is buffered, up to a bound.

    `on_message` is called for each message and `on_closed` exactly once, with the reason, unless `close()` came first.
    """

    def __init__(
        self,
        sock: socket.socket,
        union: Any,
        *,
        on_message: Callable[[T], None],
        on_closed: Callable[[str], None],
        limit_bytes: int = 256 << 20,
    ) -> None:
        sock.setblocking(False)
        self._sock = sock
        self._decoder: FrameDecoder[T] = FrameDecoder(union)
        self._on_message = on_message
        self._on_closed = on_closed
        self._limit_bytes = limit_bytes
        self._unsent: collections.deque[tuple[memoryview, list[int]]] = collections.deque()
        self._unsent_bytes = 0
        self._fds: collections.deque[int] = collections.deque()
        self._loop = asyncio.get_running_loop()
        self._closed = False
        self.broken = False
        """Whether it was closed because the peer misbehaved, not because it went away."""
        _apart(self._loop.add_reader, sock, self._read)

    @property
    def closed(self) -> bool:
        """True once neither side will say anything more."""
        return self._closed

    def send(self, message: msgspec.Struct, fds: Sequence[int] = ()) -> None:
        """Queue one frame; descriptors are duplicated, the caller keeps its own. A peer that is gone is no error here:
        `on_closed` tells."""
        if self._closed:
            return
        _check_fd_count(fds)
        data = memoryview(encode_frame(message))
        if self._unsent_bytes + len(data) > self._limit_bytes:
            self._fail(f"{self._unsent_bytes} bytes wait unread by the worker", broken=True)
            return
        self._unsent.append((data, [os.dup(fd) for fd in fds]))
        self._unsent_bytes += len(data)
        if len(self._unsent) == 1:
            self._write()

    def take_fds(self, count: int) -> list[int]:
        """The next `count` descriptors, now the caller's to close. Raises ProtocolError when fewer came."""
        if len(self._fds) < count:
            raise ProtocolError(f"{count} file descriptors announced, {len(self._fds)} came")
        return [self._fds.popleft() for _ in range(count)]

    def close(self) -> None:
        """Stop talking, and close every descriptor that nobody took; `on_closed` is not called any more."""
        if self._closed:
            return
        self._closed = True
        self._loop.remove_reader(self._sock)
        self._loop.remove_writer(self._sock)
        for _, fds in self._unsent:
            _close_all(fds)
        self._unsent.clear()
        while self._fds:
            os.close(self._fds.popleft())
        self._sock.close()

    def _read(self) -> None:
        try:
            data, ancillary, flags, _ = self._sock.recvmsg(
                READ_BYTES, socket.CMSG_SPACE(MAX_FDS * 4), socket.MSG_CMSG_CLOEXEC
            )
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self._fail(f"the socket failed: {error}")
            return
        self._fds.extend(_received_fds(ancillary))
        if flags & socket.MSG_CTRUNC or len(self._fds) > MAX_FDS:
            self._fail("file descriptors were lost on the way, or more came than were announced", broken=True)
            return
        if not data:
            self._fail("end of file")
            return
        try:
            messages = self._decoder.feed(data)
        except ProtocolError as error:
            self._fail(f"it broke the protocol: {error}", broken=True)
            return
        for message in messages:
            if self._closed:  # a handler closed us
                return
            self._on_message(message)

    def _write(self) -> None:
        try:
            while self._unsent:
                data, fds = self._unsent[0]
                sent = _send_with_fds(self._sock, data, fds)
                _close_all(fds)
                self._unsent_bytes -= sent
                if sent < len(data):
                    self._unsent[0] = (data[sent:], [])
                    break
                self._unsent.popleft()
        except (BlockingIOError, InterruptedError):
            pass
        except OSError as error:
            self._fail(f"the socket failed: {error}")
            return
        if self._unsent:
            _apart(self._loop.add_writer, self._sock, self._write)
        else:
            self._loop.remove_writer(self._sock)

    def _fail(self, reason: str, *, broken: bool = False) -> None:
        self.broken = broken
        self.close()
        _apart(self._on_closed, reason)


def _apart(call: Callable[..., None], *args: object) -> None:
    """In a context of its own: what comes of it has nothing to do with whose request is being served just now."""
    contextvars.Context().run(call, *args)


def _send_with_fds(sock: socket.socket, data: memoryview, fds: Sequence[int]) -> int:
    if not fds:
        return sock.send(data, socket.MSG_NOSIGNAL)
    _check_fd_count(fds)
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))]
    return sock.sendmsg([data], rights, socket.MSG_NOSIGNAL)


def _check_fd_count(fds: Sequence[int]) -> None:
    if len(fds) > MAX_FDS:
        raise ProtocolError(f"{len(fds)} file descriptors in one frame, at most {MAX_FDS} fit")


def _received_fds(ancillary: list[tuple[int, int, bytes]]) -> list[int]:
    fds = array.array("i")
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fds.frombytes(data[: len(data) - len(data) % fds.itemsize])
    return list(fds)


def _close_all(fds: list[int]) -> None:
    while fds:
        os.close(fds.pop())
