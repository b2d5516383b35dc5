"""The dispatcher between clients and played workers."""

from __future__ import annotations

import asyncio

import pytest

from gemmad.config.schema import DispatchSection
from gemmad.dispatch.ticket import Abandoned, Progress
from gemmad.errors import InvalidRequestError, ProtocolError, QueueFullError, RequestFailedError, UnavailableError
from gemmad.generation import FinishReason
from gemmad.protocol.messages import Output
from gemmad.supervisor.listener import Outlook
from tests.fakes.clock import settle
from tests.unit.dispatch.office import Office, play, read, read_tokens, reply


def test_a_reply_is_read_as_it_is_said() -> None:
    """Tokens arrive as progress, the last with the finish, and then the iteration ends."""

    async def script(office: Office) -> None:
        worker = office.worker()
        ticket = office.submit(max_tokens=3)
        worker.step()
        first = await anext(ticket)
        assert first == Progress(token_ids=reply(ticket)[:1], finish=None, cached_tokens=1)
        worker.step(2)
        assert await anext(ticket) == Progress(reply(ticket)[1:], FinishReason.LENGTH, 1)
        with pytest.raises(StopAsyncIteration):
            await anext(ticket)
        await asyncio.sleep(10_000)  # past every deadline that it had
        assert tuple(ticket.said) == reply(ticket)
        assert worker.aborted == []

    counts = play(script).dispatcher.status().counts
    assert (counts.finished, counts.generated_tokens, counts.prompt_tokens) == (1, 3, 3)


def test_a_slow_reader_gets_everything_at_once() -> None:
    """What nobody read yet is merged; nothing waits for the reader, nothing is lost."""

    async def script(office: Office) -> None:
        worker = office.worker()
        ticket = office.submit(max_tokens=100)
        for _ in range(100):
            worker.step()
        (only,) = await read(ticket)
        assert only.token_ids == reply(ticket)
        assert only.finish is FinishReason.LENGTH

    play(script)


def test_a_reader_that_waits_is_woken() -> None:
    """Reading before anything is said waits for it."""

    async def script(office: Office) -> None:
        worker = office.worker()
        ticket = office.submit()
        reader = asyncio.create_task(read_tokens(ticket))
        for _ in range(8):
            await settle()
            worker.step()
        assert await reader == reply(ticket)

    play(script)


def test_close_aborts_at_once() -> None:
    """A client that leaves frees the worker in the same turn; again is nothing; a late token is dropped."""

    async def script(office: Office) -> None:
        worker = office.worker()
        with office.submit() as ticket:
            worker.step()
            number = worker.submitted[0].request_id
        assert worker.aborted == [number]
        assert office.idle
        ticket.close()
        assert worker.aborted == [number]
        worker.say(Output(number, (5,)))
        assert len(ticket.said) == 1
        assert isinstance(ticket.ending, Abandoned)
        assert await read_tokens(ticket) == reply(ticket)[:1]

    assert play(script).dispatcher.status().counts.abandoned == 1


def test_close_after_the_end_is_nothing() -> None:
    """A finished request is not aborted."""

    async def script(office: Office) -> None:
        worker = office.worker()
        with office.submit(max_tokens=1):
            worker.step()
        assert worker.aborted == []

    play(script)


def test_close_in_the_queue() -> None:
    """A request that waits can be abandoned, and nobody hears of it."""

    async def script(office: Office) -> None:
        worker = office.worker(max_sequences=1)
        tickets = [office.submit() for _ in range(4)]
        assert (office.dispatcher.status().waiting, office.dispatcher.status().running) == (2, 2)
        tickets[2].close()
        for ticket in tickets[:2]:
            ticket.close()
        assert len(worker.submitted) == 3
        tickets[3].close()

    play(script)


def test_a_worker_is_handed_its_batch_and_a_small_backlog() -> None:
    """The queue stays in the daemon, first come, first served, and flows as places become free."""

    async def script(office: Office) -> None:
        worker = office.worker(max_sequences=2)
        tickets = [office.submit(number, max_tokens=2) for number in range(6)]
        assert [submit.prompt.token_ids[0] for submit in worker.submitted] == [0, 1, 2]
        worker.step(2, only=worker.submitted[1].request_id)
        assert [submit.prompt.token_ids[0] for submit in worker.submitted] == [0, 1, 2, 3]
        while not office.idle:
            worker.step(2)
        assert [await read_tokens(ticket) for ticket in tickets] == [reply(ticket) for ticket in tickets]

    play(script)


def test_work_is_spread() -> None:
    """Two ready workers share what comes, and one that leaves gets nothing new."""

    async def script(office: Office) -> None:
        first, second = office.worker("cpu0"), office.worker("cpu1")
        tickets = [office.submit() for _ in range(4)]
        assert (len(first.submitted), len(second.submitted)) == (2, 2)
        first.leave()
        tickets += [office.submit() for _ in range(2)]
        assert (len(first.submitted), len(second.submitted)) == (2, 4)
        assert office.dispatcher.status().workers_ready == 1
        for ticket in tickets:
            ticket.close()

    play(script)


def test_finished_work_weighs_nothing() -> None:
    """A worker that has done much and has nothing to do is as free as one that did nothing."""

    async def script(office: Office) -> None:
        first, second = office.worker("cpu0"), office.worker("cpu1")
        for _ in range(3):
            ticket = office.submit(*range(500), max_tokens=20)
            first.step(20)
            assert ticket.ending is FinishReason.LENGTH
        office.submit().close()
        assert (len(first.submitted), len(second.submitted)) == (4, 0)

    play(script)


def test_a_full_queue_refuses_with_a_computed_wait() -> None:
    """One more than may wait is a QueueFullError whose Retry-After follows the measured speed."""

    async def script(office: Office) -> None:
        worker = office.worker(max_sequences=1)
        quick = office.submit(max_tokens=1)
        await asyncio.sleep(4)
        worker.step()
        assert await read_tokens(quick) == reply(quick)
        tickets = [office.submit() for _ in range(4)]
        with pytest.raises(QueueFullError, match="2 requests are waiting") as refusal:
            office.submit()
        assert refusal.value.retry_after_seconds == pytest.approx((2 + 1) * 4 / 2)
        for ticket in tickets:
            ticket.close()

    assert play(script, max_waiting=2).dispatcher.status().counts.refused == 1


def test_no_queue_at_all() -> None:
    """With max_waiting = 0 a request is served at once or refused."""

    async def script(office: Office) -> None:
        office.worker(max_sequences=1)
        tickets = [office.submit(), office.submit()]
        with pytest.raises(QueueFullError):
            office.submit()
        for ticket in tickets:
            ticket.close()

    play(script, max_waiting=0)


def test_while_the_model_loads_requests_are_refused() -> None:
    """Before any worker has served, a request is told to come back when it is likely to be ready."""

    async def script(office: Office) -> None:
        office.dispatcher.outlook_changed(Outlook.LOADING, wait_seconds=42.0)
        with pytest.raises(UnavailableError, match="loading") as refusal:
            office.submit()
        assert refusal.value.retry_after_seconds == 42.0
        assert office.dispatcher.max_context is None

    play(script)


def test_while_workers_return_requests_wait() -> None:
    """When the workers that served are merely restarting, nobody is refused."""

    async def script(office: Office) -> None:
        office.worker().die()
        office.dispatcher.outlook_changed(Outlook.RETURNING, wait_seconds=5.0)
        ticket = office.submit()
        assert office.dispatcher.status().waiting == 1
        await asyncio.sleep(20)
        worker = office.worker()
        worker.step(8)
        assert await read_tokens(ticket) == reply(ticket)

    play(script)


def test_when_nobody_will_come_nobody_waits() -> None:
    """Once all workers have failed, what waits is told so, and what comes is refused."""

    async def script(office: Office) -> None:
        worker = office.worker()
        begun, waiting = office.submit(1), office.submit(2)
        worker.step(only=worker.submitted[0].request_id)
        worker.die()
        assert office.dispatcher.status().waiting == 2
        office.dispatcher.outlook_changed(Outlook.NOBODY, wait_seconds=60.0)
        with pytest.raises(UnavailableError) as unavailable:
            await read(waiting)
        assert unavailable.value.retry_after_seconds == 60.0
        assert (await anext(begun)).token_ids == reply(begun)[:1]
        with pytest.raises(RequestFailedError) as failure:
            await anext(begun)
        assert (failure.value.code, failure.value.retryable) == ("worker_lost", True)
        with pytest.raises(UnavailableError):
            office.submit()

    play(script)


def test_a_draining_daemon_admits_nothing_and_finishes_what_it_has() -> None:
    """After begin_drain new requests are refused, running and waiting ones go on, and drained() returns at the end."""

    async def script(office: Office) -> None:
        worker = office.worker(max_sequences=1)
        tickets = [office.submit() for _ in range(3)]
        office.dispatcher.begin_drain()
        with pytest.raises(UnavailableError, match="shutting down"):
            office.submit()
        drained = asyncio.create_task(office.dispatcher.drained())
        while not office.idle:
            await settle()
            assert not drained.done()
            worker.step(8)
        await drained
        assert [await read_tokens(ticket) for ticket in tickets] == [reply(ticket) for ticket in tickets]

    play(script)


def test_closing_ends_what_is_left() -> None:
    """When the grace is over, every request that is left ends with an error that its client can read."""

    async def script(office: Office) -> None:
        worker = office.worker(max_sequences=1)
        tickets = [office.submit() for _ in range(3)]
        worker.step()
        office.dispatcher.close()
        for ticket in tickets:
            with pytest.raises(RequestFailedError) as failure:
                await read(ticket)
            assert failure.value.code == "shutting_down"
        assert len(worker.aborted) == 2

    play(script)


def test_a_late_answer_of_an_earlier_submission_is_dropped() -> None:
    """Numbers are used once, so what was aborted cannot speak for its successor."""

    async def script(office: Office) -> None:
        worker = office.worker()
        office.submit(1).close()
        ticket = office.submit(2)
        worker.say(Output(worker.submitted[0].request_id, (99,)))
        worker.step(8)
        assert await read_tokens(ticket) == reply(ticket)

    play(script)


@pytest.mark.parametrize(
    ("outputs", "reason"),
    [
        ((Output(1, (1,) * 9),), "was to have 8 tokens"),
        ((Output(1, (1,) * 8), Output(1, (1,))), "was to have 8 tokens"),
        ((Output(1, (1,), FinishReason.STOP), Output(1, (1,))), "has ended and goes on"),
        ((Output(1, (1,), FinishReason.STOP), Output(1, (), FinishReason.STOP)), "has ended and goes on"),
        ((Output(7, (1,)),), "nobody submitted a request 7"),
        ((Output(0, (1,)),), "nobody submitted a request 0"),
    ],
)
def test_what_cannot_be_said_is_a_protocol_error(outputs: tuple[Output, ...], reason: str) -> None:
    """Too many tokens, tokens after the end and answers to nobody are the worker's fault."""

    async def script(office: Office) -> None:
        worker = office.worker()
        ticket = office.submit()
        with pytest.raises(ProtocolError, match=reason):
            worker.say(*outputs)
        worker.die(reason)
        ticket.close()

    play(script)


def test_a_rejected_request_is_the_clients_fault() -> None:
    """What a worker can never serve is refused with the worker's reason; a reply taken over halfway is an error."""

    async def script(office: Office) -> None:
        worker = office.worker()
        fresh, begun = office.submit(1), office.submit(2)
        worker.reject(1, "a prompt of 9000 tokens does not fit")
        with pytest.raises(InvalidRequestError, match="9000 tokens"):
            await read(fresh)
        worker.step()
        worker.die()
        other = office.worker("cpu1")
        other.reject(other.submitted[0].request_id, "too long")
        assert (await anext(begun)).token_ids == reply(begun)[:1]
        with pytest.raises(RequestFailedError) as failure:
            await anext(begun)
        assert (failure.value.code, failure.value.retryable) == ("rejected", False)
        assert other.aborted == []

    play(script)


def test_a_request_that_cannot_be_sent_fails_alone() -> None:
    """Without descriptors left for its images a request ends with an error, and the next one is served."""

    async def script(office: Office) -> None:
        worker = office.worker()
        worker.broken_pipe = True
        ticket = office.submit()
        with pytest.raises(RequestFailedError, match="Too many open files") as failure:
            await read(ticket)
        assert failure.value.code == "internal_error"
        worker.broken_pipe = False
        other = office.submit()
        worker.step(8)
        assert await read_tokens(other) == reply(other)

    play(script)


def test_a_request_waits_its_longest_for_a_first_token() -> None:
    """max_wait ends a request that has said nothing as QueueFullError, wherever it waits."""

    async def script(office: Office) -> None:
        worker = office.worker(max_sequences=1)
        tickets = [office.submit() for _ in range(3)]
        await asyncio.sleep(59)
        worker.step(only=worker.submitted[0].request_id)
        await asyncio.sleep(2)
        for ticket in tickets[1:]:
            with pytest.raises(QueueFullError, match="waited its longest"):
                await read(ticket)
        assert tickets[0].ending is None
        await asyncio.sleep(1000)
        worker.step(8)
        assert await read_tokens(tickets[0]) == reply(tickets[0])

    play(script, max_wait=60)


def test_a_reply_that_waits_for_its_next_worker_too_long() -> None:
    """A reply that lost its worker waits as long again for the next token, and then ends as lost."""

    async def script(office: Office) -> None:
        worker = office.worker()
        ticket = office.submit()
        worker.step()
        await asyncio.sleep(100)
        worker.die()
        office.dispatcher.outlook_changed(Outlook.RETURNING, wait_seconds=5.0)
        await asyncio.sleep(59)
        assert ticket.ending is None
        await asyncio.sleep(2)
        await anext(ticket)
        with pytest.raises(RequestFailedError) as failure:
            await anext(ticket)
        assert failure.value.code == "worker_lost"

    play(script, max_wait=60)


def test_a_request_may_not_take_for_ever() -> None:
    """request_timeout ends a reply that still goes on, and frees the worker."""

    async def script(office: Office) -> None:
        worker = office.worker()
        ticket = office.submit(max_tokens=1000)
        for _ in range(10):
            worker.step()
            await asyncio.sleep(10)
        with pytest.raises(RequestFailedError) as failure:
            await read(ticket)
        assert (failure.value.code, failure.value.retryable) == ("timeout", False)
        assert worker.aborted == [1]

    play(script, request_timeout=95)


def test_a_request_keeps_the_limits_it_was_admitted_under() -> None:
    """Changed settings hold for what comes after."""

    async def script(office: Office) -> None:
        worker = office.worker()
        before = office.submit()
        worker.step()
        office.section = DispatchSection(request_timeout=1)
        after = office.submit()
        await asyncio.sleep(2)
        assert before.ending is None
        assert isinstance(after.ending, RequestFailedError)
        before.close()

    play(script)


def test_the_smallest_context_is_what_is_served() -> None:
    """Between workers of different sizes the smaller one is what clients are told."""

    async def script(office: Office) -> None:
        office.worker("cpu0", max_context=8192)
        assert office.dispatcher.max_context == 8192
        small = office.worker("cpu1", max_context=1024)
        assert office.dispatcher.max_context == 1024
        small.die()
        assert office.dispatcher.max_context == 8192

    play(script)
