from __future__ import annotations

import asyncio

import pytest

from gemmad.dispatch.journey import LONGEST, Journey, Stay
from gemmad.errors import QueueFullError
from gemmad.generation import FinishReason
from gemmad.protocol.messages import Output, Stepped
from gemmad.supervisor.listener import Outlook, Verdict
from tests.fakes.desk import PlayedWorker
from tests.unit.dispatch.office import Office, play, read, reply


def step(office: Office, worker: PlayedWorker, number: int, *outputs: Output) -> None:
    office.dispatcher.worker_said(worker.handle, Stepped(number, outputs))


def test_a_stay() -> None:
    """Hand-over, first token, last token and the steps that gave them are known, and the wait before."""

    async def script(office: Office) -> None:
        office.dispatcher.outlook_changed(Outlook.RETURNING, wait_seconds=2)
        ticket = office.submit(max_tokens=3)
        began = office.clock()
        await asyncio.sleep(2)
        worker = office.worker(life=4)
        (submit,), said = worker.submitted, reply(ticket)
        await asyncio.sleep(1)
        step(office, worker, 7, Output(submit.request_id, said[:1], cached_tokens=2))
        await asyncio.sleep(1)
        step(office, worker, 8, Output(submit.request_id, said[1:2]))
        await asyncio.sleep(1)
        step(office, worker, 9, Output(submit.request_id, said[2:], FinishReason.LENGTH))
        worker.positions.clear()
        await read(ticket)
        journey = ticket.journey
        (stay,) = journey.stays
        assert (stay.worker, stay.life, stay.pid, stay.number) == ("cpu0", 4, 1, submit.request_id)
        moments = (journey.submitted_at, stay.began_at, stay.first_token_at, stay.ended_at, journey.ended_at)
        assert [moment and pytest.approx(moment - began) for moment in moments] == [0, 2, 3, 5, 5]
        assert (stay.step_before, stay.first_step, stay.last_step) == (0, 7, 9)
        assert (stay.cached_tokens, stay.said_before, stay.said_after) == (2, 0, 3)
        assert journey.queue_seconds == pytest.approx(2)
        assert (stay.left, stay.lost) == ("", False)

    play(script, max_wait=60)


def test_a_worker_is_lost() -> None:
    """Each worker that had it has a stay; the first tells why it went on, the second what it went on after."""

    async def script(office: Office) -> None:
        first = office.worker("cpu0")
        ticket = office.submit(max_tokens=4)
        first.step(2)
        await asyncio.sleep(1)
        first.die("it was killed by SIGKILL", verdict=Verdict.SUSPECT)
        await asyncio.sleep(3)
        second = office.worker("cpu1")
        second.step(9)
        assert await read(ticket)
        one, two = ticket.journey.stays
        assert (one.worker, one.left, one.lost, one.said_after) == ("cpu0", "it was killed by SIGKILL", True, 2)
        assert (two.worker, two.left, two.lost, two.said_before, two.said_after) == ("cpu1", "", False, 2, 4)
        assert two.began_at - (one.ended_at or 0) == pytest.approx(3)
        assert ticket.journey.queue_seconds == pytest.approx(3)

    play(script)


def test_one_that_no_worker_got() -> None:
    """A request that waited in vain has no stay, and all of its time is waiting."""

    async def script(office: Office) -> None:
        office.dispatcher.outlook_changed(Outlook.RETURNING, wait_seconds=2)
        ticket = office.submit()
        with pytest.raises(QueueFullError):
            await anext(ticket)
        assert ticket.journey.stays == []
        assert ticket.journey.queue_seconds == pytest.approx(5)
        assert ticket.journey.ended_at is not None

    play(script, max_wait=5)


def test_one_that_is_let_go() -> None:
    """Closing a ticket ends its stay there and then, before the first token too."""

    async def script(office: Office) -> None:
        worker = office.worker()
        ticket = office.submit()
        await asyncio.sleep(1)
        ticket.close()
        (stay,) = ticket.journey.stays
        assert worker.aborted == [1]
        assert (stay.first_token_at, stay.left) == (None, "")
        assert stay.ended_at == ticket.journey.ended_at == office.clock()

    play(script)


def test_a_long_journey_is_bounded() -> None:
    """However often it moves, so much is kept: the beginning and the end."""
    journey = Journey(0.0)
    for number in range(3 * LONGEST):
        stay = Stay(worker="cpu0", life=number, pid=0, number=number, began_at=1.0, step_before=0, said_before=0)
        journey.arrive(stay)
        journey.depart(now=1.0, step=0, said=0, left="it makes room")
    assert len(journey.stays) == LONGEST
    assert (journey.stays[0].number, journey.stays[-1].number) == (0, 3 * LONGEST - 1)
