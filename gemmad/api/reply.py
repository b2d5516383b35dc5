"""One reply being said, in one choice or several: tokens from tickets, pieces for the client."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Callable, Sequence

from gemmad.api.pieces import Ending, Piece, Said
from gemmad.api.speaker import Speaker
from gemmad.dispatch.choices import Choices
from gemmad.dispatch.journey import Journey
from gemmad.dispatch.ticket import Progress
from gemmad.generation import Usage


class Reply:
    """Read it once, and close it in the end, always. It ends with a finish of each choice; a ticket that fails raises
    instead. A choice that ends leaves the others as they are."""

    def __init__(
        self,
        choices: Choices,
        speakers: Sequence[Speaker],
        *,
        on_gap: Callable[[float], None] = lambda _seconds: None,
        on_first: Callable[[float], None] = lambda _now: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """One speaker for each choice. `on_gap` is told the seconds between tokens of one, after its first; `on_first`
        once, when the first token of any is there, the clock's time."""
        self._choices = choices
        self._speakers = tuple(speakers)
        self._on_gap = on_gap
        self._on_first = on_first
        self._clock = clock
        self._cached_tokens: dict[int, int] = {}
        self._heard_at: dict[int, float] = {}
        self._finishes: dict[int, Ending] = {}
        self.first_token_at: float | None = None

    @property
    def size(self) -> int:
        """How many choices it has."""
        return len(self._speakers)

    @property
    def request_id(self) -> str:
        """What the client knows the request by."""
        return self._choices.tickets[0].request.request_id

    @property
    def journeys(self) -> tuple[Journey, ...]:
        """Where each choice was, and when; whole once it is closed."""
        return tuple(ticket.journey for ticket in self._choices.tickets)

    async def pieces(self) -> AsyncGenerator[list[Piece], None]:
        """Text as it becomes safe to show, of all choices that have some; nothing at all where `nudge` asked for it.
        Raises what a ticket ends with."""
        async for news in self._choices:
            pieces = [piece for index, progress in news if (piece := self._take(index, progress)) is not None]
            if pieces or not news:
                yield pieces

    async def whole(self) -> list[Said]:
        """All of it, by choice. A call that was cut off is left out. Raises what a ticket ends with."""
        heard: list[list[Piece]] = [[] for _ in range(self.size)]
        async for pieces in self.pieces():
            for piece in pieces:
                heard[piece.index].append(piece)
        return [speaker.whole(said) for speaker, said in zip(self._speakers, heard, strict=True)]

    def nudge(self) -> None:
        """Whoever reads gets an empty list, after what pieces there are."""
        self._choices.nudge()

    def close(self) -> None:
        """Let go of the tickets: what is not finished is aborted at once."""
        self._choices.close()

    @property
    def finish(self) -> Ending | None:
        """Once the last choice has ended: length if that cut one off, else calls if there are any."""
        if len(self._finishes) < self.size:
            return None
        words: tuple[Ending, ...] = ("length", "tool_calls", "stop")
        return next(word for word in words if word in self._finishes.values())

    @property
    def usage(self) -> Usage:
        """Tokens so far, each prompt's once; after a stop string, those up to it. The cached ones are those that no
        choice of a prompt has computed."""
        lengths: dict[int, int] = {}
        cached: dict[int, list[int]] = {}
        for index, ticket in enumerate(self._choices.tickets):
            prompt = id(ticket.request.prompt)
            lengths[prompt] = len(ticket.request.prompt.token_ids)
            if index in self._cached_tokens:
                cached.setdefault(prompt, []).append(self._cached_tokens[index])
        completion_tokens = sum(speaker.tokens for speaker in self._speakers)
        return Usage(sum(lengths.values()), completion_tokens, sum(map(min, cached.values())))

    def _take(self, index: int, progress: Progress) -> Piece | None:
        self._note(index, progress)
        piece = self._speakers[index].take(progress)
        if piece is not None and piece.finish is not None:
            self._finishes[index] = piece.finish
            self._choices.tickets[index].close()
        return piece

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
            self._on_first(now)
        self._heard_at[index] = now
