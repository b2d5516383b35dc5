"""A request's stub: whoever holds it reads what the request says, from whichever worker says it."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable
from types import TracebackType

from msgspec import Struct

from gemmad.errors import GemmadError
from gemmad.generation import FinishReason, Prompt, SamplingParams
from gemmad.media.pixels import Pixels


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Request:
    """What is asked for. The ticket made of it owns the pixels, one for each of `prompt.images`."""

    prompt: Prompt
    sampling: SamplingParams
    pixels: tuple[Pixels, ...] = ()
    request_id: str = ""
    """What the client knows it by."""
    key: str = ""
    """Who asks; for fairness between keys."""
    priority: int = 0


class Progress(Struct, frozen=True):
    """What was said since the last one."""

    token_ids: tuple[int, ...]
    finish: FinishReason | None
    cached_tokens: int
    """Prompt tokens that were not computed, once the first token is there."""


class Abandoned(Struct, frozen=True):
    """The ending of a ticket that was closed by its holder."""


Ending = FinishReason | GemmadError | Abandoned


class Ticket:
    """Iterate over it once for `Progress`; an ending that is no finish is raised after what was said before it.

    What nobody has read yet is one growing batch, bounded by the request's own `max_tokens`, so a slow reader slows no
    one. Whoever holds a ticket calls `close()` in the end, always; leaving its `with` block does.
    """

    def __init__(self, request: Request, *, now: float, on_close: Callable[[Ticket], None]) -> None:
        self.request = request
        self.said: list[int] = []
        """Every token id, in order."""
        self.cached_tokens = 0
        self.failovers = 0
        self.ending: Ending | None = None
        self.submitted_at = now
        self.handed_at: float | None = None
        """When a worker got it, the last time."""
        self.first_token_at: float | None = None
        self._on_close = on_close
        self._read = 0
        self._over = False
        self._bell = asyncio.Event()

    def __aiter__(self) -> Ticket:
        return self

    async def __anext__(self) -> Progress:
        """Raises RequestFailedError, QueueFullError, UnavailableError or InvalidRequestError as its ending."""
        if self._over:
            raise StopAsyncIteration
        await self._bell.wait()
        if self._read < len(self.said) or isinstance(self.ending, FinishReason):
            return self._take()
        self._over = True
        assert self.ending is not None  # the bell rings for tokens and endings alone
        if isinstance(self.ending, GemmadError):
            raise self.ending
        raise StopAsyncIteration

    def close(self) -> None:
        """Nobody wants to hear more: what it still had to say is forgotten everywhere, at once. Again is nothing."""
        self._on_close(self)

    def __enter__(self) -> Ticket:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _take(self) -> Progress:
        token_ids = tuple(self.said[self._read :])
        self._read = len(self.said)
        if self.ending is None:
            self._bell.clear()
        finish = self.ending if isinstance(self.ending, FinishReason) else None
        self._over = finish is not None
        return Progress(token_ids=token_ids, finish=finish, cached_tokens=self.cached_tokens)

    # --- for the dispatcher -------------------------------------------------------------------------------------------

    def say(self, token_ids: tuple[int, ...], *, cached_tokens: int, now: float) -> None:
        """More tokens from its worker, one at least."""
        assert self.ending is None
        if not self.said:
            self.cached_tokens = max(self.cached_tokens, cached_tokens)
            self.first_token_at = now
        self.said.extend(token_ids)
        self._bell.set()

    def end(self, ending: Ending) -> None:
        """The one end that every ticket has; its pixels are not needed any more."""
        assert self.ending is None
        self.ending = ending
        for pixels in self.request.pixels:
            pixels.close()
        self._bell.set()
