"""What one life of one worker was handed and has not ended."""

from __future__ import annotations

from collections import OrderedDict

from gemmad.dispatch.entry import Entry
from gemmad.dispatch.journey import Stay
from gemmad.dispatch.policy import Standing, places
from gemmad.dispatch.prefixes import Held
from gemmad.dispatch.ticket import Ticket
from gemmad.errors import ProtocolError
from gemmad.protocol.messages import Abort, Output, Submit
from gemmad.supervisor.listener import WorkerHandle

REMEMBERED_ENDS = 1024
"""Finished submissions that are remembered, to tell a worker that goes on talking from an answer that comes late."""


class Desk:
    """Tickets by the number of their submission. The number is used once, by one desk."""

    def __init__(self, worker: WorkerHandle, *, pid: int = 0) -> None:
        self.worker = worker
        self.pid = pid
        """The worker's process."""
        self.step = 0
        """The last one that it has told of."""
        self.heard_at = 0.0
        """When it told of that."""
        self.leaving = False
        """It gets nothing new."""
        self.reserved = False
        """It gets nothing new until it is empty, and then one that must run alone."""
        self.trial: Entry | None = None
        """The one that runs alone here; nothing else is put beside it."""
        self.entries: dict[int, Entry] = {}
        """In the order of hand-over."""
        self._places = places(worker.capacity)
        self._tokens = 0
        self._unread_tokens = 0
        self._held = Held(worker.capacity)
        self._ended: OrderedDict[int, None] = OrderedDict()

    @property
    def free_places(self) -> int:
        """How many more it may be handed."""
        if self.leaving or self.reserved or self.trial is not None:
            return 0
        return max(0, self._places - len(self.entries))

    @property
    def has_idle_sequence(self) -> bool:
        """Whether one more would be computed at once."""
        return self.free_places > 0 and len(self.entries) < self.worker.capacity.max_sequences

    def standing_for(self, entry: Entry) -> Standing[Desk]:
        """How it would be to hand it this one."""
        return Standing(
            worker=self,
            capacity=self.worker.capacity,
            sequences=len(self.entries),
            tokens=self._tokens,
            unread_tokens=self._unread_tokens,
            held_tokens=int(self._held.trust * self._held.tokens(entry.blocks.names(entry.ticket.said))),
        )

    def hand_over(self, entry: Entry, number: int) -> None:
        """Put a ticket here and tell the worker. Raises OSError or ProtocolError when it cannot be sent."""
        ticket, request = entry.ticket, entry.ticket.request
        entry.desk, entry.number, entry.heard = self, number, False
        entry.expected_tokens = self._held.tokens(entry.blocks.names(ticket.said))
        entry.weight = entry.unread_tokens = entry.tokens - entry.expected_tokens
        self.entries[number] = entry
        self._tokens += entry.weight
        self._unread_tokens += entry.unread_tokens
        submit = Submit(
            request_id=number, prompt=request.prompt, sampling=request.sampling, generated=tuple(ticket.said)
        )
        self.worker.send(submit, [pixels.fd for pixels in request.pixels])

    def stay_of(self, ticket: Ticket, *, number: int, now: float) -> Stay:
        """What begins for a ticket that is handed over here."""
        return Stay(
            worker=self.worker.name,
            life=self.worker.life,
            pid=self.pid,
            number=number,
            began_at=now,
            step_before=self.step,
            said_before=len(ticket.said),
        )

    def find(self, number: int, *, submitted: int) -> Entry | None:
        """The entry under a number, of those `submitted`; None when it was taken away. Raises ProtocolError when it
        has ended here before, or was never submitted."""
        entry = self.entries.get(number)
        if entry is None:
            if number in self._ended:
                raise ProtocolError(f"request {number} has ended and goes on")
            if not 0 < number <= submitted:
                raise ProtocolError(f"nobody submitted a request {number}")
        return entry

    def hear(self, entry: Entry, output: Output) -> None:
        """Some tokens of a ticket here, which its ticket does not have yet."""
        if not entry.heard:
            self._hear_first(entry, output)
        entry.weight += len(output.token_ids)
        self._tokens += len(output.token_ids)

    def clear(self, entry: Entry, *, by_worker: bool) -> None:
        """Take a ticket away; if it was not the worker that ended it, tell the worker to forget it."""
        del self.entries[entry.number]
        entry.desk = None
        self._tokens -= entry.weight
        self._unread_tokens -= entry.unread_tokens
        if entry is self.trial:
            self.trial = None
        if not by_worker:
            self.worker.send(Abort(entry.number))
            return
        if entry.ticket.said:
            self._held.add(entry.blocks.names(entry.ticket.said))
        self._ended[entry.number] = None
        if len(self._ended) > REMEMBERED_ENDS:
            self._ended.popitem(last=False)

    def _hear_first(self, entry: Entry, output: Output) -> None:
        """It has computed the prompt, and says what it needed not."""
        entry.heard = True
        self._unread_tokens -= entry.unread_tokens
        entry.unread_tokens = 0
        entry.ticket.journey.hear_first(now=self.heard_at, step=self.step, cached_tokens=output.cached_tokens)
        self._held.learn(expected_tokens=entry.expected_tokens, cached_tokens=output.cached_tokens)
        self._held.add(entry.blocks.names(entry.ticket.said))
