"""The choices of one request: tickets that are admitted together and read together."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from gemmad.dispatch.ticket import Progress, Ticket
from gemmad.errors import GemmadError

News = list[tuple[int, Progress]]
"""What was said since the last time, by index of the choice."""


class Choices:
    """Iterate over it once. It ends when every choice has; a choice that fails ends it with its error, after what all
    have said before. Whoever holds it calls `close()` in the end, always."""

    def __init__(self, tickets: Sequence[Ticket], bell: asyncio.Event) -> None:
        """`bell` is the one that all the tickets ring."""
        self.tickets = tuple(tickets)
        self._bell = bell
        self._nudged = False

    def __aiter__(self) -> Choices:
        return self

    async def __anext__(self) -> News:
        """Raises RequestFailedError, QueueFullError, UnavailableError or InvalidRequestError. Empty after a `nudge`."""
        while True:
            news = [(index, said) for index, ticket in enumerate(self.tickets) if (said := ticket.take()) is not None]
            if news:
                return news
            if self._are_over():
                raise StopAsyncIteration
            if self._nudged:
                self._nudged = False
                return []
            self._bell.clear()
            await self._bell.wait()

    def nudge(self) -> None:
        """Whoever reads gets an empty list, after what news there is."""
        self._nudged = True
        self._bell.set()

    def close(self) -> None:
        """Nobody wants to hear more of any."""
        for ticket in self.tickets:
            ticket.close()

    def _are_over(self) -> bool:
        """Whether each has its end. Raises the error of one that has failed."""
        over = True
        for ticket in self.tickets:
            if ticket.ending is None:
                over = False
            elif isinstance(ticket.ending, GemmadError):
                raise ticket.ending
        return over
