"""A request's stub: whoever holds it reads what the request says, from whichever worker says it."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable
from types import TracebackType

from msgspec import Struct

from gemmad.dispatch.journey import Journey
from gemmad.errors import GemmadError
from gemmad.generation import FinishReason, Prompt, SamplingParams, TokenLogprobs
from gemmad.media.pixels import Pixels


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Request:
    """What is asked for. Once it is admitted the dispatcher owns the pixels, one for each of `prompt.images`."""

    prompt: Prompt
    sampling: SamplingParams
    pixels: tuple[Pixels, ...] = ()
    request_id: str = ""
    """What the client knows it by."""
    key: str = ""
    """Who asks; the queue is fair between keys."""
    priority: int = 0
    """The lower, the earlier."""


class Progress(Struct, frozen=True):
    """What was said since the last one."""

    token_ids: tuple[int, ...]
    finish: FinishReason | None
    cached_tokens: int
    """Prompt tokens that were not computed, once the first token is there."""
    logprobs: tuple[TokenLogprobs, ...] = ()
    """One for each of `token_ids`, if the request asked for them."""


class Abandoned(Struct, frozen=True):
    """The ending of a ticket that was closed by its holder."""


Ending = FinishReason | GemmadError | Abandoned


class Ticket:
    """Iterate over it once for `Progress`; an ending that is no finish is raised after what was said before it.

    What nobody has read yet is one growing batch, bounded by the request's own `max_tokens`, so a slow reader slows no
    one. Whoever holds a ticket calls `close()` in the end, always; leaving its `with` block does.
    """

    def __init__(
        self, request: Request, *, now: float, on_close: Callable[[Ticket], None], bell: asyncio.Event | None = None
    ) -> None:
        """`bell` is rung for every token and the end; tickets that are read together share one."""
        self.request = request
        self.said: list[int] = []
        """Every token id, in order."""
        self.logprobs: list[TokenLogprobs] = []
        """One for each, if they were asked for."""
        self.cached_tokens = 0
        self.failovers = 0
        self.ending: Ending | None = None
        self.journey = Journey(now)
        self.first_token_at: float | None = None
        self._on_close = on_close
        self._read = 0
        self._over = False
        self._bell = bell or asyncio.Event()

    def __aiter__(self) -> Ticket:
        return self

    async def __anext__(self) -> Progress:
        """Raises RequestFailedError, QueueFullError, UnavailableError or InvalidRequestError as its ending."""
        while not self._over:
            progress = self.take()
            if progress is not None:
                return progress
            if self.ending is None:
                self._bell.clear()
                await self._bell.wait()
                continue
            self._over = True
            if isinstance(self.ending, GemmadError):
                raise self.ending
        raise StopAsyncIteration

    def take(self) -> Progress | None:
        """What was said since the last time, without waiting; None if nothing was, or all has been read."""
        finish = self.ending if isinstance(self.ending, FinishReason) else None
        if self._over or (self._read == len(self.said) and finish is None):
            return None
        token_ids, logprobs = tuple(self.said[self._read :]), tuple(self.logprobs[self._read :])
        self._read = len(self.said)
        self._over = finish is not None
        return Progress(token_ids, finish, self.cached_tokens, logprobs)

    def close(self) -> None:
        """Nobody wants to hear more: what it still had to say is forgotten everywhere, at once. Again is nothing."""
        self._on_close(self)

    def __enter__(self) -> Ticket:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    # --- for the dispatcher -------------------------------------------------------------------------------------------

    def say(
        self,
        token_ids: tuple[int, ...],
        *,
        cached_tokens: int,
        now: float,
        logprobs: tuple[TokenLogprobs, ...] = (),
    ) -> None:
        """More tokens from its worker, one at least."""
        assert self.ending is None
        if not self.said:
            self.cached_tokens = max(self.cached_tokens, cached_tokens)
            self.first_token_at = now
        self.said.extend(token_ids)
        self.logprobs.extend(logprobs)
        self._bell.set()

    def end(self, ending: Ending) -> None:
        """The one end that every ticket has."""
        assert self.ending is None
        self.ending = ending
        self._bell.set()
