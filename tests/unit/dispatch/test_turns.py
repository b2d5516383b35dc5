"""Who gets a worker, and which: fairness, priorities, and conversations that go back to where they were."""

from __future__ import annotations

import asyncio

import pytest

from gemmad.errors import QueueFullError
from gemmad.generation import FinishReason
from gemmad.supervisor.listener import Outlook
from tests.fakes.desk import PlayedWorker
from tests.unit.dispatch.office import Office, ask, play, read_tokens, reply


def first_tokens(worker: PlayedWorker) -> list[int]:
    return [submit.prompt.token_ids[0] for submit in worker.submitted]


def drain(office: Office) -> None:
    office.dispatcher.close()


def test_one_key_does_not_starve_another() -> None:
    """While one key has a queue full of requests, another's one waits for about one of them."""

    async def script(office: Office) -> None:
        worker = office.worker(max_sequences=1)
        tickets = [office.submit(1, number, max_tokens=2, key="greedy") for number in range(40)]
        tickets.append(office.submit(2, max_tokens=2, key="modest"))
        worker.step(2)
        worker.step(2)
        assert 2 in first_tokens(worker)[:5]
        while not office.idle:
            worker.step(2)
        assert [await read_tokens(ticket) for ticket in tickets] == [reply(ticket) for ticket in tickets]

    play(script)


def test_a_key_cannot_fill_the_queue() -> None:
    """One key's requests are refused while there is still room for another's."""

    async def script(office: Office) -> None:
        office.worker(max_sequences=1)
        for _ in range(2 + 12):
            office.submit(key="greedy")
        with pytest.raises(QueueFullError, match="12 requests are waiting, 12 of them"):
            office.submit(key="greedy")
        office.submit(key="modest")
        drain(office)

    play(script, max_waiting=16)


def test_urgent_requests_go_first() -> None:
    """A lower priority is earlier, whoever asks, but not before what has begun."""

    async def script(office: Office) -> None:
        worker = office.worker(max_sequences=1)
        tickets = [office.submit(number, max_tokens=2) for number in range(3)]
        tickets.append(office.submit(3, max_tokens=2, priority=7))
        tickets.append(office.submit(4, max_tokens=2, priority=-7, key="other"))
        worker.step()
        worker.die()
        worker = office.worker(max_sequences=1)
        while not office.idle:
            worker.step(2)
        assert first_tokens(worker) == [0, 1, 4, 2, 3]
        assert [await read_tokens(ticket) for ticket in tickets] == [reply(ticket) for ticket in tickets]

    play(script)


def test_the_turn_of_a_new_key_is_near() -> None:
    """Retry-After counts what would come before the one who asks, over all workers: little for a key without requests,
    all of its own for one that has filled the queue."""

    async def script(office: Office) -> None:
        workers = [office.worker(f"cpu{number}", max_sequences=1) for number in range(2)]
        quick = office.submit(max_tokens=1)
        await asyncio.sleep(4)
        workers[0].step()
        assert quick.ending is FinishReason.LENGTH
        for _ in range(4 + 3):
            office.submit(key="greedy")
        office.submit(key="batch", priority=5)
        with pytest.raises(QueueFullError) as refusal:
            office.submit(key="greedy")
        assert refusal.value.retry_after_seconds == pytest.approx((3 + 1) * 4 / 4)
        with pytest.raises(QueueFullError) as refusal:
            office.submit(key="modest")
        assert refusal.value.retry_after_seconds == pytest.approx((1 + 1) * 4 / 4)
        with pytest.raises(QueueFullError) as refusal:
            office.submit(key="modest", priority=9)
        assert refusal.value.retry_after_seconds == pytest.approx((4 + 1) * 4 / 4)
        drain(office)

    play(script, max_waiting=4)


def test_retry_after_while_nobody_is_there() -> None:
    """Without a worker a refused one is told when one is ready and the queue has moved on, as fast as it ever did."""

    async def script(office: Office) -> None:
        worker = office.worker(max_sequences=3)
        tickets = [office.submit() for _ in range(4)]
        await asyncio.sleep(2)
        while not office.idle:
            worker.step(8)
        assert all(ticket.ending is FinishReason.LENGTH for ticket in tickets)
        worker.die()
        office.dispatcher.outlook_changed(Outlook.RETURNING, wait_seconds=9.0)
        office.submit()
        office.submit()
        with pytest.raises(QueueFullError) as refusal:
            office.submit()
        assert refusal.value.retry_after_seconds == pytest.approx(9.0 + (2 + 1) * 2 / 4)
        drain(office)

    play(script, max_waiting=2)


def test_a_conversation_goes_back_to_its_worker() -> None:
    """The next turn goes to the worker that has computed the ones before, reply included, though another is idle."""

    async def script(office: Office) -> None:
        workers = [office.worker(f"cpu{number}", max_sequences=16, caches=True) for number in range(3)]
        talks = [[number] * 100 for number in range(6)]
        homes: dict[int, PlayedWorker] = {}
        for turn in range(4):
            for number in range(6) if turn % 2 else reversed(range(6)):
                ticket = office.submit(*talks[number], max_tokens=70)
                for worker in workers:
                    if worker.positions:
                        assert homes.setdefault(number, worker) is worker
                        worker.step(70)
                talks[number] += [*ticket.said, *[number] * 5]
        assert len(set(homes.values())) == 1  # nobody was ever busy

    play(script)


def test_conversations_spread_over_busy_workers() -> None:
    """Talks that begin at the same time begin on different workers, and each stays with its own."""

    async def script(office: Office) -> None:
        workers = [office.worker(f"cpu{number}", max_sequences=16, caches=True) for number in range(3)]
        talks = [[number + 1] * 200 for number in range(9)]
        for turn in range(3):
            order = range(9) if turn % 2 else range(8, -1, -1)
            tickets = {number: office.submit(*talks[number], max_tokens=70) for number in order}
            while not office.idle:
                for worker in workers:
                    worker.step(7)
            for number, ticket in tickets.items():
                talks[number] += [*ticket.said, 3]
        homes = [set(first_tokens(worker)) for worker in workers]
        assert [len(home) for home in homes] == [3, 3, 3]
        assert set.union(*homes) == set(range(1, 10))

    play(script)


def test_a_popular_prefix_does_not_pile_up() -> None:
    """Where everybody has the same long beginning, it is not all work for the first worker that computed it."""

    async def script(office: Office) -> None:
        workers = [office.worker(f"cpu{number}", max_sequences=16, caches=True) for number in range(2)]
        office.submit(*range(2000), max_tokens=1)
        workers[0].step()
        assert office.idle
        for number in range(16):
            office.submit(*range(2000), number, max_tokens=50)
            for worker in workers:
                worker.step()
        shares = sorted(len(worker.positions) for worker in workers)
        assert shares[0] >= 5
        drain(office)

    play(script)


def test_a_worker_that_forgets_is_not_preferred() -> None:
    """Where a worker's cache is off, conversations go where there is least to do."""

    async def script(office: Office) -> None:
        worker, other = office.worker("cpu0"), office.worker("cpu1")
        for _ in range(20):
            office.submit(*range(1500), max_tokens=1)
            worker.step()
        office.submit(*[1] * 600)
        assert len(worker.positions) == 1
        office.submit(*range(1500))
        assert len(other.positions) == 1
        drain(office)

    play(script)


def test_a_dead_worker_holds_nothing() -> None:
    """What its last life held is forgotten."""

    async def script(office: Office) -> None:
        worker = office.worker("cpu0")
        office.submit(*range(1000), max_tokens=1)
        worker.step()
        other = office.worker("cpu1")
        worker.die()
        worker = office.worker("cpu0", life=2)
        office.submit(*range(1000), max_tokens=1)
        assert len(other.positions) == 1
        assert worker.submitted == []
        drain(office)

    play(script)


def test_choices_stay_together() -> None:
    """The choices of a request are computed where the first is, as long as that one computes at once; the rest goes on
    elsewhere, and on a loss they move together."""

    async def script(office: Office) -> None:
        first, second = office.worker("cpu0", max_sequences=6), office.worker("cpu1", max_sequences=6)
        choices = office.dispatcher.submit_choices([ask(1) for _ in range(4)])
        assert (len(first.positions), len(second.positions)) == (4, 0)
        more = office.dispatcher.submit_choices([ask(2) for _ in range(8)])
        assert (len(first.positions), len(second.positions)) == (6, 6)
        more.close()
        first.step()
        first.die()
        assert len(second.positions) == 4
        choices.close()
        assert office.idle
        assert len(second.aborted) == 6 + 4

    play(script)
