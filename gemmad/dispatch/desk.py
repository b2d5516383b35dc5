"""What one life of one worker was handed and has not ended."""

from __future__ import annotations

from collections import OrderedDict

from gemmad.dispatch.ticket import Ticket
from gemmad.errors import ProtocolError
from gemmad.protocol.messages import Abort, Submit
from gemmad.supervisor.listener import WorkerHandle

REMEMBERED_ENDS = 1024
"""Finished submissions that are remembered, to tell a worker that goes on talking from an answer that comes late."""


class Desk:
    """Tickets by the number of their submission. The number is used once, by one desk."""

    def __init__(self, worker: WorkerHandle) -> None:
        self.worker = worker
        self.leaving = False
        """It gets nothing new."""
        self.tickets: dict[int, Ticket] = {}
        """In the order of hand-over."""
        self.tokens = 0
        """Prompts and replies of those tickets, so far."""
        self._ended: OrderedDict[int, None] = OrderedDict()

    def hand_over(self, ticket: Ticket, number: int) -> None:
        """Put a ticket here and tell the worker. Raises OSError or ProtocolError when it cannot be sent."""
        request = ticket.request
        self.tickets[number] = ticket
        self.tokens += len(request.prompt.token_ids) + len(ticket.said)
        submit = Submit(
            request_id=number, prompt=request.prompt, sampling=request.sampling, generated=tuple(ticket.said)
        )
        self.worker.send(submit, [pixels.fd for pixels in request.pixels])

    def find(self, number: int, *, submitted: int) -> Ticket | None:
        """The ticket under a number, of those `submitted`; None when it was abandoned. Raises ProtocolError when it
        has ended here before, or was never submitted."""
        ticket = self.tickets.get(number)
        if ticket is None:
            if number in self._ended:
                raise ProtocolError(f"request {number} has ended and goes on")
            if not 0 < number <= submitted:
                raise ProtocolError(f"nobody submitted a request {number}")
        return ticket

    def clear(self, number: int, *, by_worker: bool) -> None:
        """Take a ticket away; if it was not the worker that ended it, tell the worker to forget it."""
        ticket = self.tickets.pop(number)
        self.tokens -= len(ticket.request.prompt.token_ids) + len(ticket.said)
        if not by_worker:
            self.worker.send(Abort(number))
            return
        self._ended[number] = None
        if len(self._ended) > REMEMBERED_ENDS:
            self._ended.popitem(last=False)
