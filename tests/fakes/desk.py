"""Workers as the dispatcher sees them, played by a test without processes or sockets."""

from __future__ import annotations

from collections.abc import Sequence

from gemmad.generation import Capacity
from gemmad.protocol.messages import Abort, Output, Ready, Rejected, Stepped, Submit, ToWorker
from gemmad.supervisor.listener import Listener, Verdict, WorkerHandle
from tests.fakes.worker import Behaviour, next_token

BEHAVIOUR = Behaviour()


class PlayedWorker:
    """One life. It holds that what it is told makes sense, and says what `next_token` says."""

    def __init__(
        self,
        listener: Listener,
        name: str = "cpu0",
        *,
        life: int = 1,
        max_sequences: int = 4,
        max_context: int = 4096,
        caches: bool = False,
    ) -> None:
        """With `caches` it says honestly what it needed not compute; else 1 token of each prompt."""
        self.capacity = Capacity(
            max_context=max_context,
            max_sequences=max_sequences,
            max_step_tokens=2048,
            page_tokens=16,
            full_pages=1024,
            sliding_pages=1024,
        )
        self.handle = WorkerHandle(name, life=life, capacity=self.capacity, send=self._hear)
        self.submitted: list[Submit] = []
        self.aborted: list[int] = []
        self.descriptors: list[list[int]] = []
        self.positions: dict[int, int] = {}
        """Running submissions, by number, and how much of each reply is said."""
        self.broken_pipe = False
        self._texts: list[tuple[int, ...]] | None = [] if caches else None
        """What it has computed."""
        self._submits: dict[int, Submit] = {}
        self._listener = listener
        listener.worker_ready(self.handle, Ready(capacity=self.capacity, pid=1, seconds=0.0))

    def _hear(self, message: ToWorker, fds: Sequence[int]) -> None:
        match message:
            case Submit():
                if self.broken_pipe:
                    raise OSError(24, "Too many open files")
                assert message.request_id not in self._submits
                self.submitted.append(message)
                self.descriptors.append(list(fds))
                self._submits[message.request_id] = message
                self.positions[message.request_id] = len(message.generated)
            case Abort(request_id):
                self.aborted.append(request_id)
                self.positions.pop(request_id, None)
            case _:
                raise AssertionError(f"the dispatcher said {message}")

    def step(self, tokens: int = 1, *, only: int | None = None) -> None:
        """Some tokens for each running submission, or for one."""
        outputs = []
        for number in list(self.positions) if only is None else [only]:
            outputs.append(self._advance(number, tokens))
        self.say(*outputs)

    def say(self, *outputs: Output) -> None:
        self._listener.worker_said(self.handle, Stepped(1, outputs))

    def reject(self, number: int, reason: str) -> None:
        del self.positions[number]
        self._listener.worker_said(self.handle, Rejected(number, reason))

    def leave(self) -> None:
        self._listener.worker_leaving(self.handle)

    def die(self, reason: str = "killed", *, verdict: Verdict = Verdict.INNOCENT) -> None:
        """Be gone, and judged at once."""
        self.vanish(reason)
        self.be_judged(verdict)

    def vanish(self, reason: str = "it hung up") -> None:
        """Be gone; nobody knows why yet."""
        self._listener.worker_gone(self.handle, reason)

    def be_judged(self, verdict: Verdict) -> None:
        self._listener.worker_judged(self.handle, verdict, f"it was {verdict.value}")

    def _advance(self, number: int, tokens: int) -> Output:
        submit = self._submits[number]
        fresh = self.positions[number] == len(submit.generated)
        token_ids: list[int] = []
        finish = None
        while finish is None and len(token_ids) < tokens:
            token, finish = next_token(submit.prompt, submit.sampling, self.positions[number], BEHAVIOUR)
            token_ids.append(token)
            self.positions[number] += 1
        if finish is not None:
            del self.positions[number]
        text = (*submit.prompt.token_ids, *submit.generated)
        cached = self._cached(text) if fresh else 0
        if finish is not None and self._texts is not None:
            self._texts.append((*text, *token_ids))
        return Output(number, tuple(token_ids), finish, cached)

    def _cached(self, text: tuple[int, ...]) -> int:
        """How much of a text it has computed before; from here on all of it."""
        if self._texts is None:
            return 1
        best = max((_common(text, other) for other in self._texts), default=0)
        self._texts.append(text)
        return best - best % 16


def _common(one: tuple[int, ...], other: tuple[int, ...]) -> int:
    """How many tokens are the same from the beginning."""
    pairs = zip(one, other, strict=False)
    return next((count for count, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other)))
