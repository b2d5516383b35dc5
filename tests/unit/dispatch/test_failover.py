"""Workers that go: what was on their desks goes on elsewhere, and nobody is to blame for what was planned."""

from __future__ import annotations

import pytest

from gemmad.dispatch.ticket import Progress, Request, Ticket
from gemmad.errors import RequestFailedError
from gemmad.generation import FinishReason, ImageSpan, Prompt, SamplingParams
from gemmad.media.pixels import Pixels, seal
from gemmad.protocol.messages import Output
from gemmad.supervisor.listener import Verdict
from tests.unit.dispatch.office import Office, play, read, read_tokens, reply


def test_a_lost_worker_costs_no_token() -> None:
    """A reply goes on where it was, on another worker, ahead of those that wait, in the old order."""

    async def script(office: Office) -> None:
        first = office.worker("cpu0", max_sequences=2)
        tickets = [office.submit(number) for number in range(5)]
        first.step(3)
        first.die("killed by SIGKILL")
        second = office.worker("cpu1", max_sequences=2)
        assert [submit.prompt.token_ids[0] for submit in second.submitted] == [0, 1, 2]
        assert second.submitted[0].generated == reply(tickets[0])[:3]
        while not office.idle:
            second.step(2)
        assert [await read_tokens(ticket) for ticket in tickets] == [reply(ticket) for ticket in tickets]
        assert [ticket.failovers for ticket in tickets] == [1, 1, 1, 0, 0]

    assert play(script).dispatcher.status().counts.failovers == 3


def test_planned_moves_are_never_too_many() -> None:
    """A request that is moved twenty times, by recycles and by whoever kills workers, is served in the end."""

    async def script(office: Office) -> None:
        ticket: Ticket | None = None
        for life in range(20):
            worker = office.worker(life=life)
            ticket = ticket or office.submit(max_tokens=30)
            worker.step()
            worker.leave()
            worker.die("drained too long", verdict=Verdict.INNOCENT)
        office.worker(life=21).step(30)
        assert ticket is not None
        assert await read_tokens(ticket) == reply(ticket)
        assert ticket.failovers == 20

    play(script, max_failovers=0)


def test_a_request_that_loses_too_many_workers_is_given_up() -> None:
    """The crash after max_failovers ends it, not to be tried again, with what it has said before the error."""

    async def script(office: Office) -> None:
        ticket: Ticket | None = None
        for life in range(3):
            worker = office.worker(life=life)
            ticket = ticket or office.submit()
            worker.step()
            worker.die(verdict=Verdict.INNOCENT if life == 1 else Verdict.SUSPECT)
        assert ticket is not None
        assert (await anext(ticket)).token_ids == reply(ticket)[:3]
        with pytest.raises(RequestFailedError, match="lost 2 workers") as failure:
            await anext(ticket)
        assert (failure.value.code, failure.value.retryable) == ("worker_lost", False)

    assert play(script, max_failovers=1).dispatcher.status().counts.quarantined == 0


def test_fail_over_can_be_off() -> None:
    """With max_failovers = 0 a crash ends what it met, as soon as it is known to be one, wherever that is by then."""

    async def script(office: Office) -> None:
        first, second = office.worker("cpu0"), office.worker("cpu1")
        ticket = office.submit()
        first.step()
        first.vanish()
        assert len(second.positions) == 1
        first.be_judged(Verdict.SUSPECT)
        assert second.aborted == [2]
        await anext(ticket)
        with pytest.raises(RequestFailedError, match="lost 1 workers"):
            await anext(ticket)

    play(script, max_failovers=0)


def test_cached_tokens_are_those_of_the_first_life() -> None:
    """What the next worker holds of the prompt and the reply so far is no saving that a client is told."""

    async def script(office: Office) -> None:
        first, second = office.worker("cpu0"), office.worker("cpu1")
        ticket = office.submit(max_tokens=2)
        first.say(Output(first.submitted[0].request_id, reply(ticket)[:1], cached_tokens=2))
        first.die()
        second.say(Output(second.submitted[0].request_id, reply(ticket)[1:], FinishReason.LENGTH, cached_tokens=99))
        assert [progress.cached_tokens for progress in await read(ticket)] == [2]

    play(script)


def test_a_reply_that_is_whole_but_for_its_end() -> None:
    """A worker that dies between the last token and the finish costs nothing: the end is known."""

    async def script(office: Office) -> None:
        worker = office.worker()
        ticket = office.submit(max_tokens=2)
        worker.say(Output(worker.submitted[0].request_id, reply(ticket)))
        worker.die()
        assert await read(ticket) == [Progress(reply(ticket), FinishReason.LENGTH, 0)]

    play(script)


def test_pixels_travel_and_are_closed_with_the_ticket() -> None:
    """Images go beside the submission, again to the next worker, and are given back when the request ends."""

    async def script(office: Office) -> None:
        first = office.worker("cpu0")
        pixels = [Pixels(seal(b"abc"), digest="d", height=1, width=1) for _ in range(2)]
        fds = [each.fd for each in pixels]
        prompt = Prompt((1, 2, 3), (ImageSpan(0, 1, "d"), ImageSpan(1, 1, "d")))
        request = Request(prompt=prompt, sampling=SamplingParams(max_tokens=2), pixels=tuple(pixels))
        ticket = office.dispatcher.submit(request)
        first.step()
        first.die()
        second = office.worker("cpu1")
        assert first.descriptors == second.descriptors == [fds]
        assert [each.fd for each in pixels] == fds
        second.step()
        assert [each.fd for each in pixels] == [-1, -1]
        assert await read_tokens(ticket) == reply(ticket)

    play(script)
