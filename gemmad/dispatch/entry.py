"""Where a ticket is, and what the rooms of dispatch know of it."""

from __future__ import annotations

import asyncio
import dataclasses
from typing import TYPE_CHECKING

from gemmad.dispatch.blame import Record
from gemmad.dispatch.line import Account
from gemmad.dispatch.prefixes import Blocks
from gemmad.dispatch.ticket import Ticket

if TYPE_CHECKING:
    from gemmad.dispatch.desk import Desk


@dataclasses.dataclass(eq=False, slots=True)
class Entry:
    """One ticket, from its admission to its end: on a desk under a number, in the line, or in quarantine."""

    ticket: Ticket
    account: Account
    siblings: list[Entry]
    """The choices of one request that have not ended, this one included. They own the pixels together."""
    blocks: Blocks
    timeout_at: float
    record: Record = dataclasses.field(default_factory=Record)
    timer: asyncio.TimerHandle | None = None
    awaits_token: bool = True
    """Its timer is for the next token, not for the end."""

    # the desk's notes
    desk: Desk | None = None
    number: int = 0
    heard: bool = False
    """It has said a token there."""
    unread_tokens: int = 0
    """That its worker has to compute before it says one."""
    weight: int = 0
    """What it counts for in the desk's tokens."""
    expected_tokens: int = 0
    """That its worker seemed to hold."""

    @property
    def tokens(self) -> int:
        """Its prompt and what it has said."""
        return len(self.ticket.request.prompt.token_ids) + len(self.ticket.said)
