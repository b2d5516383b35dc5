"""A process that waits to become a worker: its end of the wire, and its life until then."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from gemmad.errors import ProtocolError
from gemmad.protocol.channel import AsyncChannel
from gemmad.protocol.framing import FrameDecoder
from gemmad.protocol.zygote import Become, Born, FromSpare
from gemmad.supervisor.adopted import Adopted
from gemmad.supervisor.examine import condition_of
from gemmad.supervisor.process import REAP_SECONDS


class Spare:
    """To be closed in the end: what has not become a worker is killed then.

    `on_said` hears what it says. `on_lost` hears that its end of the wire is closed: it is gone, or a worker.
    """

    def __init__(self, *, on_said: Callable[[Spare, FromSpare], None], on_lost: Callable[[Spare], None]) -> None:
        self.taken = False
        self._on_said = on_said
        self._child: Adopted | None = None
        """Known from its birth on."""
        self._sock, self.theirs = socket.socketpair()
        """`theirs` is for the process, and to be closed once it was sent."""
        self._channel: AsyncChannel[FromSpare] = AsyncChannel(
            self._sock, FromSpare, on_message=self._hear, on_closed=lambda _: on_lost(self)
        )

    @property
    def pid(self) -> int | None:
        """None before its birth."""
        return None if self._child is None else self._child.pid

    @property
    def moves(self) -> bool:
        """Whether it can do what it is told: nobody holds it."""
        return self._child is not None and condition_of(self._child.pid) is None

    def start(
        self, _command: Sequence[str], *, stdout: int, pass_fds: tuple[int], env: Mapping[str, str], **_: Any
    ) -> Adopted:
        """Make it the worker, in the place of Popen. Raises OSError when it is gone."""
        assert self._child is not None
        self._channel.send(Become(dict(env)), [*pass_fds, stdout])
        if self._channel.closed:
            raise ProcessLookupError("the spare is gone")
        self.taken = True
        return self._child

    def close(self) -> None:
        """Let go of a worker; kill and reap what is none."""
        if self._child is None:
            self._hear_of_birth()
        self._channel.close()
        self.theirs.close()
        if self._child is not None and not self.taken:
            os.kill(self._child.pid, signal.SIGKILL)  # while it is not reaped, the number is its own
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._child.wait(REAP_SECONDS)

    def _hear(self, message: FromSpare) -> None:
        if isinstance(message, Born):
            self._child = Adopted(message.pid)
        self._on_said(self, message)

    def _hear_of_birth(self) -> None:
        """It may have told it a moment ago."""
        decoder: FrameDecoder[FromSpare] = FrameDecoder(FromSpare)
        with contextlib.suppress(OSError, ProtocolError):  # nothing is there
            for message in decoder.feed(self._sock.recv(1024)):
                if isinstance(message, Born):
                    self._child = Adopted(message.pid)
