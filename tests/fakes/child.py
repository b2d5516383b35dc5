"""A worker's process that is none: a test plays it, in the same loop, over a real socketpair."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import Callable, Collection, Mapping

from msgspec import Struct

from gemmad.generation import Capacity
from gemmad.protocol.channel import AsyncChannel
from gemmad.protocol.messages import PROTOCOL_VERSION, Loading, Ready, ToWorker
from gemmad.supervisor.examine import Condition

CAPACITY = Capacity(
    max_context=4096, max_sequences=4, max_step_tokens=2048, page_tokens=16, full_pages=1024, sliding_pages=1024
)


class ScriptedChild:
    """One spawned process as the actor sees it."""

    def __init__(
        self,
        *,
        env: Mapping[str, str],
        socket_fd: int,
        on_line: Callable[[str], None],
        on_exit: Callable[[int], None],
    ) -> None:
        self.env = env
        self.print_line = on_line
        self.pid = 1_000_000 + socket_fd
        self.heard: list[ToWorker] = []
        self.signals: list[signal.Signals] = []
        self.killable = True
        self.condition: Condition | None = None
        """What the kernel says of it."""
        self.examined = 0
        self.cpus: tuple[int, ...] = ()
        self.exited = False
        self.closed = False
        self._on_exit = on_exit
        self._wire: AsyncChannel[ToWorker] = AsyncChannel(
            socket.socket(fileno=os.dup(socket_fd)),
            ToWorker,
            on_message=self.heard.append,
            on_closed=lambda reason: None,
        )

    # --- what a test plays --------------------------------------------------------------------------------------------

    def say(self, *messages: Struct) -> None:
        for message in messages:
            self._wire.send(message)

    def say_bytes(self, data: bytes) -> None:
        if not self._wire.closed:
            with contextlib.suppress(BrokenPipeError):  # the daemon may have hung up before
                self._wire._sock.send(data)

    def load(self) -> None:
        """From nothing to ready."""
        self.say(Loading(PROTOCOL_VERSION, "imports", 0.0), Ready(capacity=CAPACITY, pid=self.pid, seconds=0.0))

    def hang_up(self) -> None:
        self._wire.close()

    def exit(self, code: int, *, hang_up_first: bool = True) -> None:
        """The kernel closes the socket before the exit is known; the daemon may see the two in either order."""
        if self.exited:
            return
        self.exited = True
        if hang_up_first:
            self.hang_up()
        asyncio.get_running_loop().call_soon(self._report_exit, code)

    def _report_exit(self, code: int) -> None:
        if not self.closed:
            self._on_exit(code)
        self.hang_up()

    # --- what the actor calls -----------------------------------------------------------------------------------------

    def pin(self, cpus: Collection[int]) -> None:
        self.cpus = tuple(cpus)

    def examine(self) -> Condition | None:
        self.examined += 1
        return self.condition

    def terminate(self) -> None:
        self.signals.append(signal.SIGTERM)

    def kill(self) -> None:
        self.signals.append(signal.SIGKILL)
        if self.killable:
            self.exit(-signal.SIGKILL)

    def close(self) -> None:
        assert not self.closed
        self.closed = True
        self.exited = True
        self._wire.close()


class Nursery:
    """Spawns children and remembers them; the program can be missing."""

    def __init__(self) -> None:
        self.children: list[ScriptedChild] = []
        self.missing = False

    def __call__(
        self,
        *,
        env: Mapping[str, str],
        socket_fd: int,
        on_line: Callable[[str], None],
        on_exit: Callable[[int], None],
    ) -> ScriptedChild:
        if self.missing:
            raise FileNotFoundError(2, "No such file or directory", "worker")
        child = ScriptedChild(env=env, socket_fd=socket_fd, on_line=on_line, on_exit=on_exit)
        self.children.append(child)
        return child
