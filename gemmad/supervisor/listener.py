"""What the supervisor tells the room above it, which hands out the work."""

from __future__ import annotations

import enum
from collections.abc import Callable, Sequence
from typing import Protocol

from gemmad.generation import Capacity, EngineLoad
from gemmad.protocol.messages import Ready, Rejected, Stepped, ToWorker


class WorkerHandle:
    """One life of one worker, from its `worker_ready` to its `worker_gone`. Compared by identity: while a worker is
    renewed there may be two of its name, the one that leaves and the next."""

    __slots__ = ("_send", "capacity", "life", "name")

    def __init__(
        self, name: str, *, life: int, capacity: Capacity, send: Callable[[ToWorker, Sequence[int]], None]
    ) -> None:
        self.name = name
        self.life = life
        self.capacity = capacity
        self._send = send

    def send(self, message: ToWorker, fds: Sequence[int] = ()) -> None:
        """Say something, with descriptors beside it that stay the caller's. Never waits; a worker that is gone is no
        error. Raises ProtocolError for a message that no frame holds, OSError when there are no descriptors left."""
        self._send(message, fds)

    def __repr__(self) -> str:
        return f"<worker {self.name}, life {self.life}>"


class Outlook(enum.Enum):
    """Whether there is someone to serve a request."""

    SERVING = "serving"
    """A worker is ready."""
    RETURNING = "returning"
    """None is, but one that has served comes back: requests can wait for it."""
    LOADING = "loading"
    """None has served yet."""
    NOBODY = "nobody"
    """No worker will come soon: all have failed or are stopped."""


class Verdict(enum.Enum):
    """Whether something that a worker was computing may have ended it."""

    INNOCENT = "innocent"
    """It was asked to go, or somebody killed it."""
    SUSPECT = "suspect"
    """It crashed, hung, or lost its device."""


class Listener(Protocol):
    """Told from the loop, one worker at a time: `worker_ready` first, `worker_gone` last, each once a life; and once
    its exit has told why it went, `worker_judged`, unless the daemon ends before.

    `worker_said` may raise ProtocolError when what was said cannot be; the worker is then killed.
    """

    def worker_ready(self, worker: WorkerHandle, ready: Ready) -> None: ...

    def worker_said(self, worker: WorkerHandle, message: Stepped | Rejected) -> None: ...

    def worker_load(self, worker: WorkerHandle, load: EngineLoad) -> None: ...

    def worker_leaving(self, worker: WorkerHandle) -> None:
        """It drains: it finishes what it has and gets nothing new."""

    def worker_gone(self, worker: WorkerHandle, reason: str) -> None:
        """Nothing that it had will be answered."""

    def worker_judged(self, worker: WorkerHandle, verdict: Verdict, reason: str) -> None:
        """Why it went; its requests have long gone on elsewhere."""

    def outlook_changed(self, outlook: Outlook, *, wait_seconds: float) -> None:
        """`wait_seconds` guesses when someone will be ready."""
