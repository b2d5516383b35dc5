"""One reply being said: tokens from a ticket, text for the client."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Callable

from gemmad.dispatch.ticket import Progress, Ticket
from gemmad.generation import FinishReason, Usage
from gemmad.text.reply import ReplyText


class Reply:
    """Read it once, and close it in the end, always. It ends with a `finish`; a ticket that fails raises instead."""

    def __init__(
        self,
        ticket: Ticket,
        text: ReplyText,
        *,
        on_gap: Callable[[float], None] = lambda _seconds: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`on_gap` is told the seconds between tokens, for those after the first."""
        self._ticket = ticket
        self._text = text
        self._on_gap = on_gap
        self._clock = clock
        self._cached_tokens = 0
        self._heard_at: float | None = None
        self.first_token_at: float | None = None
        self.finish: FinishReason | None = None
        """Set once the last piece was said."""

    async def pieces(self) -> AsyncGenerator[str, None]:
        """Text as it becomes safe to show, never empty. Raises what the ticket ends with."""
        async for progress in self._ticket:
            self._note(progress)
            piece = self._text.feed(progress.token_ids)
            if progress.finish is not None:
                piece += self._text.finish()
            finish = FinishReason.STOP if self._text.stopped else progress.finish
            if finish is not None:
                self.close()
            if piece:
                yield piece
            if finish is not None:
                self.finish = finish
                return

    async def whole(self) -> str:
        """All of it."""
        return "".join([piece async for piece in self.pieces()])

    def close(self) -> None:
        """Let go of the ticket: what is not finished is aborted at once."""
        self._ticket.close()

    @property
    def usage(self) -> Usage:
        """Tokens so far; after a stop string, those up to it."""
        return Usage(len(self._ticket.request.prompt.token_ids), self._text.tokens, self._cached_tokens)

    def _note(self, progress: Progress) -> None:
        self._cached_tokens = progress.cached_tokens
        if not progress.token_ids:
            return
        now = self._clock()
        if self._heard_at is None:
            self.first_token_at = now
        else:
            self._on_gap((now - self._heard_at) / len(progress.token_ids))
        self._heard_at = now
