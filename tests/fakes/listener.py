"""A listener that writes down what it is told, for tests of the supervisor without a dispatcher."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from gemmad.errors import ProtocolError
from gemmad.generation import EngineLoad, Prompt, SamplingParams
from gemmad.protocol.messages import Ready, Rejected, Stepped, Submit
from gemmad.supervisor.listener import Outlook, Verdict, WorkerHandle


class RecordingListener:
    """Submits `prompt` to each worker that gets ready, and holds that what it is told makes sense."""

    def __init__(self, *, sampling: SamplingParams | None = None, refuse: bool = False) -> None:
        self.events: list[str] = []
        self.workers: list[WorkerHandle] = []
        self.leaving: list[WorkerHandle] = []
        self.said: list[Stepped | Rejected] = []
        self.reasons: list[str] = []
        self.verdicts: list[tuple[WorkerHandle, Verdict]] = []
        self.outlooks: list[Outlook] = [Outlook.LOADING]
        self.loads = 0
        self._sampling = sampling
        self._refuse = refuse
        self._changed = asyncio.Event()

    def worker_ready(self, worker: WorkerHandle, ready: Ready) -> None:
        twins = [other for other in self.workers if other.name == worker.name]
        assert all(other.life < worker.life for other in twins)  # a renewal's: the one before is about to leave
        assert ready.capacity == worker.capacity
        self.workers.append(worker)
        self._note(f"ready {worker.name}.{worker.life}")
        if self._sampling is not None:
            worker.send(Submit(worker.life, Prompt((1, 2, 3)), self._sampling))

    def worker_said(self, worker: WorkerHandle, message: Stepped | Rejected) -> None:
        assert worker in self.workers
        if self._refuse:
            raise ProtocolError("the listener refuses this")
        self.said.append(message)
        self._changed.set()

    def worker_load(self, worker: WorkerHandle, load: EngineLoad) -> None:
        assert worker in self.workers
        self.loads += 1
        self._changed.set()

    def worker_leaving(self, worker: WorkerHandle) -> None:
        assert worker in self.workers
        assert worker not in self.leaving
        self.leaving.append(worker)
        self._note(f"leaving {worker.name}.{worker.life}")

    def worker_gone(self, worker: WorkerHandle, reason: str) -> None:
        self.workers.remove(worker)
        if worker in self.leaving:
            self.leaving.remove(worker)
        self.reasons.append(reason)
        self._note(f"gone {worker.name}.{worker.life}")

    def worker_judged(self, worker: WorkerHandle, verdict: Verdict, reason: str) -> None:
        assert worker not in self.workers
        assert all(worker is not judged for judged, _ in self.verdicts)
        self.verdicts.append((worker, verdict))
        self._changed.set()

    def outlook_changed(self, outlook: Outlook, *, wait_seconds: float) -> None:
        assert wait_seconds >= 0
        if outlook is not self.outlooks[-1]:
            self.outlooks.append(outlook)
        self._changed.set()

    def said_tokens(self) -> tuple[int, ...]:
        """All token ids that were said, whoever said them."""
        return tuple(
            token
            for message in self.said
            if isinstance(message, Stepped)
            for output in message.outputs
            for token in output.token_ids
        )

    async def until(self, condition: Callable[[], bool], *, seconds: float = 20.0) -> None:
        """Wait for a condition over what was told, or fail with what was told."""
        try:
            async with asyncio.timeout(seconds):
                while not condition():
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            raise AssertionError(f"not within {seconds} s; told: {self.events}, {self.reasons}") from None

    def _note(self, event: str) -> None:
        self.events.append(event)
        self._changed.set()
