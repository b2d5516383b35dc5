"""Between the API's requests and the pool's workers: one table of tickets, one queue, one desk for each ready worker.

Every request ends exactly once, in `_end`: finished, refused, failed or abandoned. Until then it is in the table, and
either in the queue or on a desk. When a worker is gone, what was on its desk goes back to the head of the queue with
the tokens that it has said, and the next worker goes on after them. A submission has a number of its own on the wire,
so what an earlier one still says is dropped by its number.
"""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections import OrderedDict
from collections.abc import Callable

from gemmad.config.schema import DispatchSection
from gemmad.dispatch.counts import Counts, DispatchStatus
from gemmad.dispatch.desk import Desk
from gemmad.dispatch.policy import (
    ServiceTime,
    Standing,
    TokenRate,
    choose,
    clamp_retry,
    may_wait,
    turn_in_seconds,
)
from gemmad.dispatch.ticket import Abandoned, Ending, Request, Ticket
from gemmad.errors import (
    InvalidRequestError,
    ProtocolError,
    QueueFullError,
    RequestFailedError,
    UnavailableError,
)
from gemmad.generation import EngineLoad, FinishReason
from gemmad.logs import get_logger
from gemmad.protocol.messages import Output, Ready, Rejected, Stepped
from gemmad.supervisor.listener import Outlook, Verdict, WorkerHandle

DRAINING_SECONDS = 5.0
"""When to try a daemon again that stops: its next life is most likely coming up by then."""
UNKNOWN_WAIT_SECONDS = 10.0

log = get_logger("gemmad.dispatch")


@dataclasses.dataclass(eq=False)
class _Entry:
    """Where a ticket is: on a desk under a number; without a desk, in the queue."""

    timeout_at: float
    desk: Desk | None = None
    number: int = 0
    timer: asyncio.TimerHandle | None = None
    awaits_token: bool = True


class Dispatcher:
    """The pool's listener. Everything here runs in the loop and nothing waits, so nothing is ever half done."""

    def __init__(self, *, section: Callable[[], DispatchSection], clock: Callable[[], float] = time.monotonic) -> None:
        self._section = section
        self._clock = clock
        self._table: dict[Ticket, _Entry] = {}
        self._queue: OrderedDict[Ticket, None] = OrderedDict()
        self._desks: dict[WorkerHandle, Desk] = {}
        self._numbers = 0
        """Submissions so far; the number of the last one."""
        self._outlook = Outlook.LOADING
        self._wait_seconds = UNKNOWN_WAIT_SECONDS
        self._draining = False
        self._idle = asyncio.Event()
        self._idle.set()
        self._service = ServiceTime()
        self._rate = TokenRate()
        self._counts = Counts()

    # --- for the API --------------------------------------------------------------------------------------------------

    def submit(self, request: Request) -> Ticket:
        """Admit a request. Raises UnavailableError or QueueFullError, and then the pixels stay the caller's."""
        self._counts.requests += 1
        try:
            self._admit()
        except (UnavailableError, QueueFullError):
            self._counts.refused += 1
            raise
        now = self._clock()
        ticket = Ticket(request, now=now, on_close=self._abandon)
        self._table[ticket] = _Entry(timeout_at=now + self._section().request_timeout)
        self._idle.clear()
        self._queue[ticket] = None
        self._await_token(ticket)
        self._hand_out()
        return ticket

    def begin_drain(self) -> None:
        """Admit nothing new; what is there goes on."""
        self._draining = True

    async def drained(self) -> None:
        """Return when no request is left."""
        await self._idle.wait()

    def close(self) -> None:
        """The daemon stops: admit nothing new, and end what is left."""
        self._draining = True
        for ticket in list(self._table):
            self._end(ticket, RequestFailedError("The server is shutting down.", code="shutting_down"))

    @property
    def max_context(self) -> int | None:
        """The longest context that every ready worker serves; None while none is ready."""
        return min((desk.worker.capacity.max_context for desk in self._desks.values()), default=None)

    def status(self) -> DispatchStatus:
        """All counts as of now."""
        return DispatchStatus(
            waiting=len(self._queue),
            running=len(self._table) - len(self._queue),
            workers_ready=sum(not desk.leaving for desk in self._desks.values()),
            outlook=self._outlook,
            draining=self._draining,
            tokens_per_second=self._rate.per_second(self._clock()),
            service_seconds=self._service.seconds,
            counts=dataclasses.replace(self._counts),
        )

    # --- for the pool -------------------------------------------------------------------------------------------------

    def worker_ready(self, worker: WorkerHandle, ready: Ready) -> None:
        """One more desk."""
        self._desks[worker] = Desk(worker)
        self._hand_out()

    def worker_said(self, worker: WorkerHandle, message: Stepped | Rejected) -> None:
        """Tokens and endings for the desk's tickets. Raises ProtocolError for what cannot be."""
        desk = self._desks[worker]
        if isinstance(message, Rejected):
            self._take_rejection(desk, message)
        else:
            now = self._clock()
            generated_before = self._counts.generated_tokens
            for output in message.outputs:
                self._take_output(desk, output, now)
            self._rate = self._rate.after(self._counts.generated_tokens - generated_before, now=now)
        self._hand_out()

    def worker_load(self, worker: WorkerHandle, load: EngineLoad) -> None:
        """What it counts itself; the choice goes by our own count, which is never late."""

    def worker_leaving(self, worker: WorkerHandle) -> None:
        """Its desk gets nothing new."""
        self._desks[worker].leaving = True

    def worker_gone(self, worker: WorkerHandle, reason: str) -> None:
        """What was on its desk goes on elsewhere."""
        lost = list(self._desks.pop(worker).tickets.values())
        if lost:
            log.warning("requests move on", worker=worker.name, life=worker.life, requests=len(lost), reason=reason)
        for ticket in reversed(lost):  # each to the head, so the first stays first
            self._requeue(ticket)
        self._hand_out()

    def worker_judged(self, worker: WorkerHandle, verdict: Verdict, reason: str) -> None:
        """Nobody is blamed yet."""

    def outlook_changed(self, outlook: Outlook, *, wait_seconds: float) -> None:
        """Once nobody will come, nobody is kept waiting."""
        self._outlook = outlook
        self._wait_seconds = wait_seconds
        if outlook is Outlook.NOBODY:
            for ticket in list(self._queue):
                self._end(ticket, self._lost() if ticket.said else self._unavailable("No worker is left."))

    # --- from the queue to a desk -------------------------------------------------------------------------------------

    def _admit(self) -> None:
        """Raise unless the request can be served now or may wait."""
        if self._draining:
            raise UnavailableError("The server is shutting down.", retry_after_seconds=DRAINING_SECONDS)
        if all(desk.leaving for desk in self._desks.values()):
            if self._outlook is Outlook.NOBODY:
                raise self._unavailable("No worker is there to serve the request.")
            if self._outlook is Outlook.LOADING:
                raise self._unavailable("The model is still loading.")
        waiting = len(self._queue)
        served_at_once = not waiting and self._choose(prompt_tokens=0) is not None
        if not served_at_once and not may_wait(waiting=waiting, max_waiting=self._section().max_waiting):
            raise self._queue_full(f"The queue is full: {waiting} requests are waiting.")

    def _hand_out(self) -> None:
        """Give the head of the queue to whoever has room, as long as someone has."""
        while self._queue:
            ticket = next(iter(self._queue))
            desk = self._choose(prompt_tokens=len(ticket.request.prompt.token_ids) + len(ticket.said))
            if desk is None:
                return
            del self._queue[ticket]
            self._hand_over(ticket, desk)

    def _choose(self, *, prompt_tokens: int) -> Desk | None:
        standings = [
            Standing(worker=desk, capacity=desk.worker.capacity, sequences=len(desk.tickets), tokens=desk.tokens)
            for desk in self._desks.values()
            if not desk.leaving
        ]
        return choose(standings, prompt_tokens=prompt_tokens)

    def _hand_over(self, ticket: Ticket, desk: Desk) -> None:
        self._numbers += 1
        entry = self._table[ticket]
        entry.desk, entry.number = desk, self._numbers
        ticket.handed_at = self._clock()
        try:
            desk.hand_over(ticket, self._numbers)
        except (OSError, ProtocolError) as error:
            log.exception("request not sent", request=ticket.request.request_id, worker=desk.worker.name)
            self._end(ticket, RequestFailedError(f"The request could not be sent: {error}", code="internal_error"))

    def _requeue(self, ticket: Ticket) -> None:
        self._table[ticket].desk = None
        ticket.failovers += 1
        if len(ticket.said) >= ticket.request.sampling.max_tokens:
            self._end(ticket, FinishReason.LENGTH)  # all was said but that this was all
        elif ticket.failovers > self._section().max_failovers:
            message = f"The request lost {ticket.failovers} workers, one after another."
            self._end(ticket, RequestFailedError(message, code="worker_lost"))
        else:
            self._counts.failovers += 1
            self._queue[ticket] = None
            self._queue.move_to_end(ticket, last=False)
            self._await_token(ticket)

    # --- what workers say ---------------------------------------------------------------------------------------------

    def _take_output(self, desk: Desk, output: Output, now: float) -> None:
        ticket = desk.find(output.request_id, submitted=self._numbers)
        if ticket is None:
            return
        count, max_tokens = len(output.token_ids), ticket.request.sampling.max_tokens
        if len(ticket.said) + count > max_tokens:
            raise ProtocolError(f"request {output.request_id} was to have {max_tokens} tokens and has more")
        if count:
            ticket.say(output.token_ids, cached_tokens=output.cached_tokens, now=now)
            desk.tokens += count
            self._counts.generated_tokens += count
            self._await_end(ticket)
        if output.finish is not None:
            self._end(ticket, output.finish, by_worker=True)

    def _take_rejection(self, desk: Desk, rejected: Rejected) -> None:
        ticket = desk.find(rejected.request_id, submitted=self._numbers)
        if ticket is None:
            return
        ending: Ending = InvalidRequestError(rejected.reason, code="rejected")
        if ticket.said:
            message = f"The worker that took the reply over refused it: {rejected.reason}"
            ending = RequestFailedError(message, code="rejected", retryable=False)
        self._end(ticket, ending, by_worker=True)

    # --- endings ------------------------------------------------------------------------------------------------------

    def _end(self, ticket: Ticket, ending: Ending, *, by_worker: bool = False) -> None:
        """The one place where a request ends."""
        entry = self._table.pop(ticket)
        self._queue.pop(ticket, None)
        if entry.timer is not None:
            entry.timer.cancel()
        if entry.desk is not None:
            entry.desk.clear(entry.number, by_worker=by_worker)
        self._count(ticket, ending)
        ticket.end(ending)
        if not self._table:
            self._idle.set()

    def _count(self, ticket: Ticket, ending: Ending) -> None:
        if isinstance(ending, Abandoned):
            self._counts.abandoned += 1
        elif not isinstance(ending, FinishReason):
            self._counts.failed += 1
        else:
            self._counts.finished += 1
            self._counts.prompt_tokens += len(ticket.request.prompt.token_ids)
            if ticket.handed_at is not None:
                self._service = self._service.after(self._clock() - ticket.handed_at)

    def _abandon(self, ticket: Ticket) -> None:
        if ticket in self._table:
            self._end(ticket, Abandoned())
            self._hand_out()

    # --- deadlines ----------------------------------------------------------------------------------------------------

    def _await_token(self, ticket: Ticket) -> None:
        """From queueing to the next token."""
        entry = self._table[ticket]
        until = self._clock() + self._section().max_wait
        entry.awaits_token = until < entry.timeout_at
        self._arm(ticket, min(until, entry.timeout_at))

    def _await_end(self, ticket: Ticket) -> None:
        """From a token to the end."""
        entry = self._table[ticket]
        if entry.awaits_token:
            entry.awaits_token = False
            self._arm(ticket, entry.timeout_at)

    def _arm(self, ticket: Ticket, when: float) -> None:
        entry = self._table[ticket]
        if entry.timer is not None:
            entry.timer.cancel()
        entry.timer = asyncio.get_running_loop().call_later(max(0.0, when - self._clock()), self._expire, ticket)

    def _expire(self, ticket: Ticket) -> None:
        if not self._table[ticket].awaits_token:
            message = "The request took longer than allowed."
            self._end(ticket, RequestFailedError(message, code="timeout", retryable=False))
        elif ticket.said:
            self._end(ticket, self._lost())
        else:
            self._end(ticket, self._queue_full("The request waited its longest for a first token."))
        self._hand_out()

    # --- what clients are told ----------------------------------------------------------------------------------------

    def _lost(self) -> RequestFailedError:
        return RequestFailedError("Its worker is gone, and no other came to go on with the reply.", code="worker_lost")

    def _queue_full(self, message: str) -> QueueFullError:
        waiting, running = len(self._queue), len(self._table) - len(self._queue)
        seconds = turn_in_seconds(self._service, waiting=waiting, running=running)
        return QueueFullError(message, retry_after_seconds=seconds)

    def _unavailable(self, message: str) -> UnavailableError:
        return UnavailableError(message, retry_after_seconds=clamp_retry(self._wait_seconds))
