"""One confined process as the daemon sees it: spawned, spoken to, killed, reaped."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Generic, TypeAlias, TypeVar

from msgspec import Struct

from gemmad.media.wire import Done, FromMedia, Idle, Refused
from gemmad.protocol.channel import AsyncChannel

KEPT_ENVIRONMENT = (
    *("PATH", "LANG", "LC_ALL", "TZ", "LD_LIBRARY_PATH"),
    *("PYTHONPATH", "PYTHONHOME", "PYTHONDONTWRITEBYTECODE", "PYTHONPYCACHEPREFIX"),
    *("SSL_CERT_FILE", "SSL_CERT_DIR"),
)
"""All that a confined process inherits. API keys, tokens, proxies and the notify socket stay with the daemon."""

ALLOCATOR_ENVIRONMENT = {"MALLOC_ARENA_MAX": "1", "MALLOC_MMAP_THRESHOLD_": str(1 << 20)}
"""glibc: what held a picture goes back to the kernel when the picture goes."""

REAP_SECONDS = 5.0
_FIRST_LOOK_SECONDS = 0.002
_LAST_LOOK_SECONDS = 0.5

Said: TypeAlias = Idle | Done | Refused
T = TypeVar("T")


class Child(Generic[T]):
    """A process that is alive or about to be. `on_gone` is called once, when it is dead and reaped, unless `close()`
    came first. Both callbacks are called from the loop, never from within a method."""

    def __init__(
        self,
        command: Sequence[str],
        begin: Struct,
        *,
        on_said: Callable[[Child[T], T], None],
        on_gone: Callable[[Child[T], str], None],
        union: Any = FromMedia,
    ) -> None:
        """Spawn it; `union` is what it may say. Raises OSError when the host lets no process start."""
        self._on_said = on_said
        self._on_gone = on_gone
        self._loop = asyncio.get_running_loop()
        self._look: asyncio.TimerHandle | None = None
        ours, theirs = socket.socketpair()
        try:
            with theirs:
                self._process = subprocess.Popen(
                    [*command, "--fd", str(theirs.fileno())],
                    env=child_environment(os.environ),
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    pass_fds=[theirs.fileno()],
                )
        except BaseException:
            ours.close()
            raise
        self._channel: AsyncChannel[T] = AsyncChannel(ours, union, on_message=self._said, on_closed=self._lost)
        self._channel.send(begin)

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def send(self, job: Struct) -> None:
        """Give it a job. One that is gone is no error here: `on_gone` tells."""
        self._channel.send(job)

    def take_fd(self) -> int:
        """The descriptor that came with the last message, now the caller's. Raises ProtocolError when none came."""
        return self._channel.take_fds(1)[0]

    def kill(self) -> None:
        """End it at once; `on_gone` follows."""
        self._process.kill()

    def close(self) -> None:
        """End it, reap it, and hear nothing more of it. Waits for the kernel: milliseconds, `REAP_SECONDS` at worst."""
        self._channel.close()
        if self._look is not None:
            self._look.cancel()
        self._process.kill()
        try:
            self._process.wait(REAP_SECONDS)
        except subprocess.TimeoutExpired:  # stuck in the kernel; init reaps it when it gets loose
            self._process.returncode = -signal.SIGKILL

    def _said(self, message: T) -> None:
        self._on_said(self, message)

    def _lost(self, reason: str) -> None:
        """The socket is at its end: it died, or it speaks nonsense and must."""
        self._process.kill()
        self._look = self._loop.call_later(0, self._reap, reason, _FIRST_LOOK_SECONDS)

    def _reap(self, reason: str, pause: float) -> None:
        """Its end of the socket is closed a moment before it can be reaped."""
        status = self._process.poll()
        if status is None:
            self._look = self._loop.call_later(pause, self._reap, reason, min(2 * pause, _LAST_LOOK_SECONDS))
            return
        self._look = None
        self._on_gone(self, reason if self._channel.broken else _ending(status))


def child_environment(env: Mapping[str, str]) -> dict[str, str]:
    """What of the daemon's environment a confined process sees."""
    return {name: env[name] for name in KEPT_ENVIRONMENT if name in env} | ALLOCATOR_ENVIRONMENT


def _ending(status: int) -> str:
    if status >= 0:
        return f"it exited with status {status}"
    try:
        return f"it was ended by {signal.Signals(-status).name}"
    except ValueError:
        return f"it was ended by signal {-status}"
