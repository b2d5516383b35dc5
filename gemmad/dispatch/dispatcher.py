"""Between the API's requests and the pool's workers: one table of tickets, one line, one desk for each ready worker.

Every request ends exactly once, in `_end`: finished, refused, failed or abandoned. Until then it is in the table, and
either on a desk, or in the line, or in quarantine. When a worker is gone, what was on its desk goes back to the head of
the line with the tokens that it has said, and the next worker goes on after them; who has lost too many in doubtful
ways waits in quarantine until it can run alone. A submission has a number of its own on the wire, so what an earlier
one still says is dropped by its number.
"""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import Callable, Sequence
from itertools import islice

from gemmad.config.schema import DispatchSection
from gemmad.dispatch.blame import Loss, Treatment
from gemmad.dispatch.choices import Choices
from gemmad.dispatch.counts import Counts, DispatchStatus, TokenRate
from gemmad.dispatch.deadlines import Deadlines
from gemmad.dispatch.desk import Desk
from gemmad.dispatch.entry import Entry
from gemmad.dispatch.listing import Listed, listed
from gemmad.dispatch.prefixes import Blocks
from gemmad.dispatch.prospects import Prospects
from gemmad.dispatch.ticket import Abandoned, Ending, Request, Ticket
from gemmad.dispatch.waiting import WaitingRoom
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

log = get_logger("gemmad.dispatch")


class Dispatcher:
    """The pool's listener. Everything here runs in the loop and nothing waits, so nothing is ever half done."""

    def __init__(self, *, section: Callable[[], DispatchSection], clock: Callable[[], float] = time.monotonic) -> None:
        self._section = section
        self._clock = clock
        self._table: dict[Ticket, Entry] = {}
        self._waiting = WaitingRoom()
        self._desks: dict[WorkerHandle, Desk] = {}
        self._unjudged: dict[WorkerHandle, tuple[Loss, list[Entry]]] = {}
        """Lives that are over, and who was there, until it is known why."""
        self._deadlines = Deadlines(clock=clock, expire=self._expire)
        self._numbers = 0
        """Submissions so far; the number of the last one."""
        self._prospects = Prospects()
        self._draining = False
        self._idle = asyncio.Event()
        self._idle.set()
        self._rate = TokenRate()
        self._counts = Counts()

    # --- for the API --------------------------------------------------------------------------------------------------

    def submit(self, request: Request) -> Ticket:
        """Admit a request. Raises UnavailableError or QueueFullError, and then the pixels stay the caller's."""
        return self._submit((request,), asyncio.Event())[0]

    def submit_choices(self, requests: Sequence[Request]) -> Choices:
        """Admit requests that are answered together, all or none; they own one set of pixels together, or have none.

        Raises as `submit` does.
        """
        bell = asyncio.Event()
        return Choices(self._submit(requests, bell), bell)

    def begin_drain(self) -> None:
        """Admit nothing new; what is there goes on."""
        self._draining = True

    async def drained(self) -> None:
        """Return when no request is left."""
        await self._idle.wait()

    def close(self) -> None:
        """The daemon stops: admit nothing new, and end what is left."""
        self._draining = True
        for entry in list(self._table.values()):
            self._end(entry, RequestFailedError("The server is shutting down.", code="shutting_down"))

    @property
    def max_context(self) -> int | None:
        """The longest context that every ready worker serves; None while none is ready."""
        return min((desk.worker.capacity.max_context for desk in self._desks.values()), default=None)

    @property
    def request_timeout(self) -> float:
        """Seconds that a request may take in all."""
        return self._section().request_timeout

    def status(self) -> DispatchStatus:
        """All counts as of now."""
        return DispatchStatus(
            waiting=len(self._waiting),
            running=self._running,
            workers_ready=sum(not desk.leaving for desk in self._desks.values()),
            outlook=self._prospects.outlook,
            draining=self._draining,
            tokens_per_second=self._rate.per_second(self._clock()),
            service_seconds=self._prospects.service.seconds,
            counts=dataclasses.replace(self._counts),
        )

    # --- for operators ------------------------------------------------------------------------------------------------

    def requests(self, *, most: int | None = None) -> tuple[Listed, ...]:
        """Those that are admitted and have not ended, in the order in which they came: all, or the first of them."""
        now = self._clock()
        return tuple(listed(entry, now=now) for entry in islice(self._table.values(), most))

    def cancel(self, request_id: str) -> tuple[Listed, ...]:
        """End what clients know by this id, with all of its choices; those that ended, as they were."""
        now = self._clock()
        found = [entry for entry in self._table.values() if entry.ticket.request.request_id == request_id]
        were = tuple(listed(entry, now=now) for entry in found)
        for entry in found:
            message = "An operator of the server cancelled the request."
            self._end(entry, RequestFailedError(message, code="cancelled", retryable=False))
        self._hand_out()
        return were

    # --- for the pool -------------------------------------------------------------------------------------------------

    def worker_ready(self, worker: WorkerHandle, ready: Ready) -> None:
        """One more desk."""
        self._desks[worker] = Desk(worker, pid=ready.pid)
        self._hand_out()

    def worker_said(self, worker: WorkerHandle, message: Stepped | Rejected) -> None:
        """Tokens and endings for the desk's tickets. Raises ProtocolError for what cannot be."""
        desk = self._desks[worker]
        if isinstance(message, Rejected):
            self._take_rejection(desk, message)
        else:
            now = self._clock()
            desk.step, desk.heard_at = message.step, now
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
        self._hand_out()

    def worker_gone(self, worker: WorkerHandle, reason: str) -> None:
        """What was on its desk goes on elsewhere, at once; whether it is to blame is judged later."""
        desk = self._desks.pop(worker)
        lost = list(desk.entries.values())
        if lost:
            log.warning("requests move on", worker=worker.name, life=worker.life, requests=len(lost), reason=reason)
            loss = Loss()
            self._unjudged[worker] = loss, lost
            self._wait_again([entry for entry in lost if self._moves_on(entry, loss, desk, reason)])
        self._hand_out()

    def worker_judged(self, worker: WorkerHandle, verdict: Verdict, reason: str) -> None:
        """What its going means for who was there, wherever they are by now."""
        loss, lost = self._unjudged.pop(worker, (Loss(), []))
        loss.verdict = verdict
        for entry in reversed(lost):
            if entry.ticket.ending is None:
                self._reconsider(entry)
        self._hand_out()

    def outlook_changed(self, outlook: Outlook, *, wait_seconds: float) -> None:
        """Once nobody will come, nobody is kept waiting."""
        self._prospects.outlook, self._prospects.wait_seconds = outlook, wait_seconds
        if outlook is Outlook.NOBODY:
            for entry in [entry for entry in self._table.values() if entry.desk is None]:
                self._end(entry, self._prospects.nobody_left(begun=bool(entry.ticket.said)))

    # --- admission ----------------------------------------------------------------------------------------------------

    def _submit(self, requests: Sequence[Request], bell: asyncio.Event) -> list[Ticket]:
        self._counts.requests += len(requests)
        try:
            self._admit(requests[0], len(requests))
        except (UnavailableError, QueueFullError):
            self._counts.refused += len(requests)
            raise
        siblings: list[Entry] = []
        for request in requests:
            self._enter(request, siblings, bell)
        tickets = [entry.ticket for entry in siblings]
        self._idle.clear()
        self._hand_out()
        return tickets

    def _admit(self, request: Request, wanted: int) -> None:
        """Raise unless all can be served now or may wait."""
        if self._draining:
            raise UnavailableError("The server is shutting down.", retry_after_seconds=DRAINING_SECONDS)
        if all(desk.leaving for desk in self._desks.values()):
            self._prospects.require_somebody()
        most = self._section().max_waiting
        if not self._waiting.has_room(request, wanted=wanted, desks=self._desks.values(), max_waiting=most):
            waiting, of_key = len(self._waiting), self._waiting.waiting_of(request.key)
            message = f"The queue is full: {waiting} requests are waiting, {of_key} of them with the same key."
            raise self._queue_full(message, request)

    def _enter(self, request: Request, siblings: list[Entry], bell: asyncio.Event) -> None:
        now = self._clock()
        entry = Entry(
            ticket=Ticket(request, now=now, on_close=self._abandon, bell=bell),
            account=self._waiting.open(request.key),
            siblings=siblings,
            blocks=Blocks(request.prompt),
            timeout_at=now + self._section().request_timeout,
        )
        siblings.append(entry)
        self._table[entry.ticket] = entry
        self._waiting.enter(entry)
        self._deadlines.await_token(entry, max_wait=self._section().max_wait)

    # --- to a desk ----------------------------------------------------------------------------------------------------

    @property
    def _running(self) -> int:
        return len(self._table) - len(self._waiting)

    def _hand_out(self) -> None:
        """Give whoever has its turn to whoever has room, as long as there are both."""
        while self._waiting:
            turn = self._waiting.take_next(self._desks.values(), now=self._clock())
            if turn is None:
                return
            self._hand_over(*turn)

    def _hand_over(self, entry: Entry, desk: Desk) -> None:
        self._numbers += 1
        ticket = entry.ticket
        first_time = ticket.journey.handed_at is None
        ticket.journey.arrive(desk.stay_of(ticket, number=self._numbers, now=self._clock()))
        log.debug(
            "request handed over",
            request_id=ticket.request.request_id,
            worker=desk.worker.name,
            life=desk.worker.life,
            number=self._numbers,
        )
        try:
            desk.hand_over(entry, self._numbers)
        except (OSError, ProtocolError) as error:
            log.exception("request not sent", request_id=ticket.request.request_id, worker=desk.worker.name)
            self._end(entry, RequestFailedError(f"The request could not be sent: {error}", code="internal_error"))
            return
        if desk.trial is entry:
            log.warning("request runs alone", request_id=ticket.request.request_id, worker=desk.worker.name)
        if first_time:  # what it costs that a worker went is nobody's
            entry.account.charge(prompt_tokens=entry.unread_tokens)
        self._prospects.note_running(self._running)

    # --- what workers say ---------------------------------------------------------------------------------------------

    def _take_output(self, desk: Desk, output: Output, now: float) -> None:
        entry = desk.find(output.request_id, submitted=self._numbers)
        if entry is None:
            return
        ticket = entry.ticket
        count, max_tokens = len(output.token_ids), ticket.request.sampling.max_tokens
        if len(ticket.said) + count > max_tokens:
            raise ProtocolError(f"request {output.request_id} was to have {max_tokens} tokens and has more")
        if len(output.logprobs) != (0 if ticket.request.sampling.logprobs is None else count):
            raise ProtocolError(f"request {output.request_id} has {len(output.logprobs)} log-probabilities")
        if count:
            desk.hear(entry, output)
            ticket.say(output.token_ids, cached_tokens=output.cached_tokens, now=now, logprobs=output.logprobs)
            entry.account.charge(reply_tokens=count)
            self._counts.generated_tokens += count
            self._deadlines.await_end(entry)
        if output.finish is not None:
            self._end(entry, output.finish, by_worker=True)
        elif entry is desk.trial and entry.record.has_passed(said=len(ticket.said)):
            self._acquit(entry, desk)

    def _take_rejection(self, desk: Desk, rejected: Rejected) -> None:
        entry = desk.find(rejected.request_id, submitted=self._numbers)
        if entry is None:
            return
        log.warning(
            "request rejected by its worker",
            request_id=entry.ticket.request.request_id,
            worker=desk.worker.name,
            number=rejected.request_id,
        )
        ending: Ending = InvalidRequestError(rejected.reason, code="rejected")
        if entry.ticket.said:
            message = f"The worker that took the reply over refused it: {rejected.reason}"
            ending = RequestFailedError(message, code="rejected", retryable=False)
        self._end(entry, ending, by_worker=True)

    # --- lost workers, and who is to blame ----------------------------------------------------------------------------

    def _moves_on(self, entry: Entry, loss: Loss, desk: Desk, reason: str) -> bool:
        """Note that it was there; whether there is anything left for it to say."""
        ticket = entry.ticket
        ticket.journey.depart(now=self._clock(), step=desk.step, said=len(ticket.said), left=reason, lost=True)
        entry.desk = None
        log.debug(
            "request moves on", request_id=ticket.request.request_id, worker=desk.worker.name, life=desk.worker.life
        )
        entry.record.note(loss, said=len(ticket.said))
        ticket.failovers += 1
        if len(ticket.said) >= ticket.request.sampling.max_tokens:
            self._end(entry, FinishReason.LENGTH)  # all was said but that this was all
            return False
        self._counts.failovers += 1
        return True

    def _wait_again(self, entries: Sequence[Entry]) -> None:
        self._waiting.come_back(entries, now=self._clock())
        for entry in entries:
            self._deadlines.await_token(entry, max_wait=self._section().max_wait)

    def _reconsider(self, entry: Entry) -> None:
        """A loss of it was judged."""
        record = entry.record
        if record.treatment() is Treatment.REFUSED:
            self._counts.quarantined += 1
            self._refuse(entry, "The request is refused: two workers died while they served it, a third with it alone.")
            record.convict()
        elif record.deaths() > self._section().max_failovers:
            self._refuse(entry, f"The request lost {record.deaths()} workers, one after another.")
        else:
            self._waiting.reconsider(entry)
            if record.treatment() is Treatment.WITH_OTHERS and entry.desk is not None and entry.desk.trial is entry:
                entry.desk.trial = None

    def _refuse(self, entry: Entry, message: str) -> None:
        request = entry.ticket.request
        log.error(
            "request refused, workers die of it",
            request_id=request.request_id,
            deaths=entry.record.deaths(),
            prompt_tokens=len(request.prompt.token_ids),
            images=len(request.prompt.images),
            said=len(entry.ticket.said),
        )
        for choice in list(entry.siblings):
            self._end(choice, RequestFailedError(message, code="worker_lost", retryable=False))

    def _acquit(self, entry: Entry, desk: Desk) -> None:
        """It need not be alone any longer; where others must be, it makes room, and goes on where there is some."""
        log.info("request acquitted", request_id=entry.ticket.request.request_id, worker=desk.worker.name)
        entry.record.acquit()
        desk.trial = None
        if self._waiting.has_suspects and len(entry.ticket.said) < entry.ticket.request.sampling.max_tokens:
            said = len(entry.ticket.said)
            entry.ticket.journey.depart(now=self._clock(), step=desk.step, said=said, left="it makes room")
            desk.clear(entry, by_worker=False)
            self._wait_again([entry])

    # --- endings ------------------------------------------------------------------------------------------------------

    def _end(self, entry: Entry, ending: Ending, *, by_worker: bool = False) -> None:
        """The one place where a request ends."""
        ticket, desk, now = entry.ticket, entry.desk, self._clock()
        del self._table[ticket]
        self._waiting.end(entry)
        self._deadlines.cancel(entry)
        if desk is not None:
            ticket.journey.depart(now=now, step=desk.step, said=len(ticket.said))
            desk.clear(entry, by_worker=by_worker)
        ticket.journey.end(now)
        entry.siblings.remove(entry)
        if not entry.siblings:
            for pixels in ticket.request.pixels:
                pixels.close()
        self._count(ticket, ending, now)
        ticket.end(ending)
        if not self._table:
            self._idle.set()

    def _count(self, ticket: Ticket, ending: Ending, now: float) -> None:
        if isinstance(ending, Abandoned):
            self._counts.abandoned += 1
        elif not isinstance(ending, FinishReason):
            self._counts.failed += 1
        else:
            self._counts.finished += 1
            self._counts.prompt_tokens += len(ticket.request.prompt.token_ids)
            if (handed_at := ticket.journey.handed_at) is not None:
                self._prospects.note_finished(now - handed_at)

    def _abandon(self, ticket: Ticket) -> None:
        entry = self._table.get(ticket)
        if entry is not None:
            self._end(entry, Abandoned())
            self._hand_out()

    def _expire(self, entry: Entry) -> None:
        if not entry.awaits_token:
            message = "The request took longer than allowed."
            self._end(entry, RequestFailedError(message, code="timeout", retryable=False))
        elif entry.ticket.said:
            self._end(entry, self._prospects.lost())
        else:
            message = "The request waited its longest for a first token."
            self._end(entry, self._queue_full(message, entry.ticket.request))
        self._hand_out()

    def _queue_full(self, message: str, request: Request) -> QueueFullError:
        turns_before = self._waiting.turns_before(request)
        return self._prospects.queue_full(message, turns_before=turns_before, running=self._running)
