"""Workers, clients, verdicts and time in any order: nothing is lost, repeated or out of order, and all ends once."""

from __future__ import annotations

import asyncio
import dataclasses

from hypothesis import given, settings
from hypothesis import strategies as st

from gemmad.dispatch.ticket import Ticket
from gemmad.errors import GemmadError, QueueFullError
from gemmad.generation import FinishReason
from gemmad.supervisor.listener import Verdict
from tests.fakes.desk import PlayedWorker
from tests.unit.dispatch.office import Office, ask, play, reply


@dataclasses.dataclass
class Client:
    """Reads one ticket to its end, now and then."""

    ticket: Ticket
    got: list[int] = dataclasses.field(default_factory=list)
    endings: list[object] = dataclasses.field(default_factory=list)

    async def read_what_is_there(self) -> None:
        while self.ticket.said[len(self.got) :] or (self.ticket.ending is not None and not self.endings):
            try:
                progress = await anext(self.ticket)
            except StopAsyncIteration:
                self.endings.append("abandoned")
            except GemmadError as error:
                self.endings.append(error)
            else:
                self.got.extend(progress.token_ids)
                if progress.finish is not None:
                    self.endings.append(progress.finish)


class Chaos:
    """Workers, clients and time, each act by its name."""

    def __init__(self, office: Office) -> None:
        self.office = office
        self.workers = [office.worker("w0", max_sequences=2)]
        self.unjudged: list[PlayedWorker] = []
        self.clients: list[Client] = []
        self.refused = 0

    async def submit(self, max_tokens: int, number: int) -> None:
        """One request or several choices, of three keys and priorities."""
        request = ask(
            len(self.clients), number, max_tokens=max_tokens, key=f"key {number % 3}", priority=number % 4 - 1
        )
        requests = [request] * (1 + number // 2)
        try:
            choices = self.office.dispatcher.submit_choices(requests)
        except QueueFullError:
            self.refused += len(requests)
        else:
            self.clients += [Client(ticket) for ticket in choices.tickets]

    async def ready(self, max_sequences: int, _: int) -> None:
        self.workers.append(self.office.worker(max_sequences=max_sequences))

    async def step(self, number: int, tokens: int) -> None:
        for worker in self.workers[number : number + 1]:
            worker.step(tokens)

    async def leave(self, number: int, _: int) -> None:
        for worker in self.workers[number : number + 1]:
            worker.leave()

    async def die(self, number: int, _: int) -> None:
        for worker in self.workers[number : number + 1]:
            self.workers.remove(worker)
            worker.vanish()
            self.unjudged.append(worker)

    async def judge(self, number: int, innocent: int) -> None:
        for worker in self.unjudged[number : number + 1]:
            self.unjudged.remove(worker)
            worker.be_judged(Verdict.INNOCENT if innocent else Verdict.SUSPECT)

    async def close(self, number: int, _: int) -> None:
        for client in self.clients[number : number + 1]:
            client.ticket.close()

    async def read(self, number: int, _: int) -> None:
        for client in self.clients[number : number + 1]:
            await client.read_what_is_there()

    async def sleep(self, seconds: int, _: int) -> None:
        await asyncio.sleep(seconds)

    def check(self) -> None:
        """Who runs alone is alone, no more than one does, and the counts are those of the workers."""
        dispatcher = self.office.dispatcher
        desks = list(dispatcher._desks.values())
        assert sum(desk.trial is not None for desk in desks) <= 1
        assert all(list(desk.entries.values()) == [desk.trial] for desk in desks if desk.trial is not None)
        assert sum(len(worker.positions) for worker in self.workers) == dispatcher.status().running
        for desk in desks:
            assert desk._tokens == sum(entry.weight for entry in desk.entries.values())
            assert desk._unread_tokens == sum(entry.unread_tokens for entry in desk.entries.values())

    async def finish(self) -> None:
        """One good worker more, and everything comes to its end."""
        self.workers.append(self.office.worker("last", max_sequences=8))
        while self.unjudged:
            await self.judge(0, 1)
        while not self.office.idle:
            for worker in self.workers:
                worker.step(3)
            self.check()
        for client in self.clients:
            await client.read_what_is_there()


ACTS = st.one_of(
    st.tuples(st.just("submit"), st.integers(1, 12), st.integers(0, 5)),
    st.tuples(st.just("submit"), st.just(40), st.integers(0, 5)),
    st.tuples(st.just("step"), st.integers(0, 2), st.integers(1, 8)),
    st.tuples(st.sampled_from(["die", "leave", "ready"]), st.integers(1, 2), st.just(0)),
    st.tuples(st.just("die"), st.just(0), st.just(0)),
    st.tuples(st.just("judge"), st.integers(0, 2), st.integers(0, 1)),
    st.tuples(st.sampled_from(["close", "read"]), st.integers(0, 9), st.just(0)),
    st.tuples(st.just("sleep"), st.sampled_from([1, 6, 40, 70]), st.just(0)),
)


@settings(max_examples=200)
@given(st.lists(ACTS, max_size=80), st.sampled_from([0, 1, 50]))
def test_every_request_ends_once_and_no_token_is_lost(script: list[tuple[str, int, int]], max_failovers: int) -> None:
    """Whatever workers, clients, verdicts and time do, each ticket ends once and says a beginning of the one right
    reply: the whole of it if it finished."""

    async def act(office: Office) -> None:
        chaos = Chaos(office)
        for name, first, second in script:
            await getattr(chaos, name)(first, second)
            chaos.check()
        await chaos.finish()
        for client in chaos.clients:
            assert len(client.endings) == 1
            assert tuple(client.got) == reply(client.ticket)[: len(client.got)]
            assert len(client.got) == len(reply(client.ticket)) or not isinstance(client.endings[0], FinishReason)
        assert office.dispatcher.status().counts.refused == chaos.refused
        assert office.dispatcher.status().counts.requests == len(chaos.clients) + chaos.refused
        assert all(not worker.positions for worker in chaos.workers)
        assert office.dispatcher._waiting._line._accounts == {}

    play(act, max_failovers=max_failovers, max_wait=60, request_timeout=200, max_waiting=6)


@settings(max_examples=100)
@given(st.lists(st.tuples(st.sampled_from(["step", "die", "ready", "judge", "sleep"]), st.integers(0, 2)), max_size=80))
def test_planned_losses_cost_nothing(script: list[tuple[str, int]]) -> None:
    """However often workers are recycled or killed from outside, every stream is what it is on a calm day."""

    async def act(office: Office) -> None:
        chaos = Chaos(office)
        for number in range(6):
            await chaos.submit(40, number)
        for name, number in script:
            await getattr(chaos, name)(number if name != "ready" else 2, 1)
            chaos.check()
        await chaos.finish()
        assert all(client.endings == [FinishReason.LENGTH] for client in chaos.clients)
        assert all(tuple(client.got) == reply(client.ticket) for client in chaos.clients)

    play(act, max_failovers=0, max_wait=10_000)
