"""One life of a zygote, and the spares that it has forked: they come, wait and go together.

A few spares are forked ahead of time. So to start a worker is to send one of them a word, and nobody ever waits for a
zygote to answer. A spare that was taken is a worker like any other, and the end of its brood is nothing to it.
"""

from __future__ import annotations

import asyncio
import collections
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import assert_never

from gemmad.logs import get_logger
from gemmad.protocol.channel import AsyncChannel
from gemmad.protocol.messages import PROTOCOL_VERSION
from gemmad.protocol.zygote import Born, Fork, FromSpare, FromZygote, Idle, Unfit, Warm
from gemmad.supervisor.adopted import reap_group
from gemmad.supervisor.output import relay
from gemmad.supervisor.process import Process, explain_exit
from gemmad.supervisor.spare import Spare

COMMAND = (sys.executable, "-m", "gemmad.worker.zygote")
SPARES = 2
"""One takes two megabytes. So many workers may begin at once; others follow some hundredths of a second later."""
WARM_SECONDS = 300.0
"""Time for its imports: a cold disk may make them long."""
FORK_SECONDS = 10.0
"""Time for a fork. Nobody waits for it, but a zygote that needs longer is of no use."""
HANG_UP_SECONDS = 1.0
"""From its end of file to its exit."""
GROUP_SECONDS = 0.2
"""For processes that have been killed to be gone."""
NAME = "zygote"

log = get_logger("gemmad.supervisor")


class Brood:
    """Lives from its construction, which raises OSError when the program cannot be started, to `end` or `close`.

    `on_end` hears why it is of no use any more; nothing of it is left then.
    """

    def __init__(
        self,
        command: Sequence[str] = COMMAND,
        *,
        number: int,
        env: Mapping[str, str],
        gpu: bool,
        on_end: Callable[[str], None],
        spares: int = SPARES,
        fork_seconds: float = FORK_SECONDS,
    ) -> None:
        """`number` counts the zygotes; `gpu` tells whether its workers compute on one."""
        self.unfit = False
        """It has said that it cannot fork, and so would the next one."""
        self._number = number
        self._on_end = on_end
        self._spares_wanted = spares
        self._fork_seconds = fork_seconds
        self._idle: collections.deque[Spare] = collections.deque()
        self._leaving: set[Spare] = set()
        """Those who were told to become workers."""
        self._coming: Spare | None = None
        self._closed = False
        self._timer: asyncio.TimerHandle | None = None
        ours, theirs = socket.socketpair()
        try:
            self._process = Process(
                [*command, "--gpu"] if gpu else command,
                env=env,
                socket_fd=theirs.fileno(),
                on_line=self._print_line,
                on_exit=lambda code: self.end(explain_exit(code)),
            )
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        self._channel: AsyncChannel[FromZygote] = AsyncChannel(
            ours, FromZygote, on_message=self._hear, on_closed=lambda reason: self._wait(HANG_UP_SECONDS, reason)
        )
        self._wait(WARM_SECONDS, "its imports take too long")

    @property
    def pid(self) -> int:
        """Of the zygote."""
        return self._process.pid

    @property
    def spares(self) -> int:
        """How many can be taken."""
        return len(self._idle)

    def take(self) -> Spare | None:
        """A spare, if one is there; another is forked."""
        if not self._idle:
            return None
        spare = self._idle.popleft()
        self._leaving.add(spare)
        if not spare.moves:
            self.end(f"spare {spare.pid} is stopped")
            return None
        self._ask()
        return spare

    def end(self, reason: str) -> None:
        """It is of no use any more."""
        if not self._closed:
            self.close()
            self._on_end(reason)

    def close(self) -> None:
        """Kill the zygote and the spares that are left, and reap them all."""
        if self._closed:
            return
        self._closed = True
        self._wait(None)
        self._channel.close()
        self._process.close()  # and its whole group, to which a spare belongs until it says that it is born
        for spare in [*self._idle, *self._leaving]:
            spare.close()
        if self._coming is not None:
            self._coming.close()
            reap_group(self.pid, seconds=GROUP_SECONDS)

    def _hear(self, message: FromZygote) -> None:
        match message:
            case Warm(protocol, seconds) if protocol == PROTOCOL_VERSION:
                log.info("zygote is warm", life=self._number, pid=self.pid, seconds=round(seconds, 3))
                self._wait(None)
                self._ask()
            case Warm(protocol):
                self.unfit = True
                self.end(f"its workers would speak version {protocol}, not {PROTOCOL_VERSION}")
            case Unfit(reason):
                self.unfit = True
                self.end(reason)
            case _:
                assert_never(message)

    def _ask(self) -> None:
        """For one more, if one is missing and none is on its way."""
        if self._coming is not None or len(self._idle) >= self._spares_wanted:
            return
        try:
            self._coming = spare = Spare(on_said=self._hear_spare, on_lost=self._lose)
            self._channel.send(Fork(), [spare.theirs.fileno()])
        except OSError as error:  # no descriptors are left
            self.end(f"it cannot be asked for a spare: {error}")
            return
        spare.theirs.close()
        self._wait(self._fork_seconds, "it does not fork")

    def _hear_spare(self, spare: Spare, message: FromSpare) -> None:
        match message:
            case Born():
                pass  # and is known by its number
            case Idle():
                self._wait(None)
                self._coming = None
                self._idle.append(spare)
                self._ask()
            case _:
                assert_never(message)

    def _lose(self, spare: Spare) -> None:
        if spare.taken:
            self._leaving.discard(spare)
            spare.close()
        else:
            self.end("a spare is gone")

    def _wait(self, seconds: float | None, reason: str = "") -> None:
        """What is waited for has so long to come, or has come."""
        if self._timer is not None:
            self._timer.cancel()
        loop = asyncio.get_running_loop()
        self._timer = None if seconds is None else loop.call_later(seconds, self.end, reason)

    def _print_line(self, line: str) -> None:
        relay(line, worker=NAME, life=self._number)
