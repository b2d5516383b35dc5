"""One reply being said, in one choice or several: tokens from tickets, text for the client."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Callable, Sequence

from msgspec import Struct

from gemmad.dispatch.choices import Choices
from gemmad.dispatch.ticket import Progress
from gemmad.generation import FinishReason, Usage
from gemmad.text.reply import ReplyText


class Piece(Struct, frozen=True):
    """What a choice says: some text, its end, or both."""

    index: int
    text: str
    finish: FinishReason | None


class Reply:
    """Read it once, and close it in the end, always. It ends with a finish of each choice; a ticket that fails raises
    instead. A choice that ends leaves the others as they are."""

    def __init__(
        self,
        choices: Choices,
        texts: Sequence[ReplyText],
        *,
        on_gap: Callable[[float], None] = lambda _seconds: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """One text for each choice. `on_gap` is told the seconds between tokens of one, for those after the first."""
        self._choices = choices
        self._texts = tuple(texts)
        self._on_gap = on_gap
        self._clock = clock
        self._cached_tokens: dict[int, int] = {}
        self._heard_at: dict[int, float] = {}
        self._finishes: dict[int, FinishReason] = {}
        self.first_token_at: float | None = None

    @property
    def size(self) -> int:
        """How many choices it has."""
        return len(self._texts)

    async def pieces(self) -> AsyncGenerator[list[Piece], None]:
        """Text as it becomes safe to show, of all choices that have some; nothing at all where `nudge` asked for it.
        Raises what a ticket ends with."""
        async for news in self._choices:
            pieces = [piece for index, progress in news if (piece := self._take(index, progress)) is not None]
            if pieces or not news:
                yield pieces

    async def whole(self) -> list[tuple[str, FinishReason]]:
        """All of it: text and finish of each choice."""
        texts = [""] * self.size
        async for pieces in self.pieces():
            for piece in pieces:
                texts[piece.index] += piece.text
        return [(text, self._finishes[index]) for index, text in enumerate(texts)]

    def nudge(self) -> None:
        """Whoever reads gets an empty list, after what pieces there are."""
        self._choices.nudge()

    def close(self) -> None:
        """Let go of the tickets: what is not finished is aborted at once."""
        self._choices.close()

    @property
    def finish(self) -> FinishReason | None:
        """Once the last choice has ended: length if that cut one off."""
        if len(self._finishes) < self.size:
            return None
        return FinishReason.LENGTH if FinishReason.LENGTH in self._finishes.values() else FinishReason.STOP

    @property
    def usage(self) -> Usage:
        """Tokens so far, the prompt's once; after a stop string, those up to it. The cached ones are those that none of
        the choices has computed."""
        prompt = self._choices.tickets[0].request.prompt
        completion_tokens = sum(text.tokens for text in self._texts)
        return Usage(len(prompt.token_ids), completion_tokens, min(self._cached_tokens.values(), default=0))

    def _take(self, index: int, progress: Progress) -> Piece | None:
        self._note(index, progress)
        text = self._texts[index]
        said = text.feed(progress.token_ids)
        if progress.finish is not None:
            said += text.finish()
        finish = FinishReason.STOP if text.stopped else progress.finish
        if finish is not None:
            self._finishes[index] = finish
            self._choices.tickets[index].close()
        return Piece(index, said, finish) if said or finish is not None else None

    def _note(self, index: int, progress: Progress) -> None:
        self._cached_tokens[index] = progress.cached_tokens
        if not progress.token_ids:
            return
        now = self._clock()
        heard_at = self._heard_at.get(index)
        if heard_at is not None:
            self._on_gap((now - heard_at) / len(progress.token_ids))
        elif self.first_token_at is None:
            self.first_token_at = now
        self._heard_at[index] = now
