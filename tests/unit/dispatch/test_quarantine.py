"""Requests that may be what workers die of: they run alone, one after another, and everybody else goes on."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gemmad.dispatch.blame import TRIAL_TOKENS
from gemmad.dispatch.quarantine import PATIENCE_SECONDS
from gemmad.dispatch.ticket import Ticket
from gemmad.errors import GemmadError, RequestFailedError
from gemmad.generation import Prompt, SamplingParams
from gemmad.supervisor.listener import Outlook, Verdict
from tests.fakes.desk import PlayedWorker
from tests.unit.dispatch.office import Office, ask, play, read_tokens, reply

SUSPECT = Verdict.SUSPECT


def prompts(worker: PlayedWorker) -> list[int]:
    """First token of each prompt that the worker has now."""
    numbers = list(worker.positions)
    return [submit.prompt.token_ids[0] for submit in worker.submitted if submit.request_id in numbers]


def suspects(office: Office, count: int = 1, *, max_tokens: int = 200) -> list[Ticket]:
    """Requests 0, 1, … that two workers have died with."""
    tickets = [office.submit(number, max_tokens=max_tokens) for number in range(count)]
    for _ in range(2):
        worker = office.worker(max_sequences=count + 4)
        worker.step()
        worker.die(verdict=SUSPECT)
    return tickets


def begin(office: Office) -> None:
    """Requests can wait for workers."""
    office.dispatcher.outlook_changed(Outlook.RETURNING, wait_seconds=1.0)


async def finish(office: Office, *workers: PlayedWorker) -> None:
    while not office.idle:
        for worker in workers:
            worker.step(4)


def test_a_suspect_runs_alone() -> None:
    """After two deaths it has a desk for itself, and what comes goes elsewhere."""

    async def script(office: Office) -> None:
        begin(office)
        (suspect,) = suspects(office)
        first = office.worker("cpu0")
        others = [office.submit(number) for number in (5, 6)]
        assert prompts(first) == [0]
        second = office.worker("cpu1")
        assert prompts(second) == [5, 6]
        others.append(office.submit(7))
        assert prompts(first) == [0]
        assert prompts(second) == [5, 6, 7]
        await finish(office, first, second)
        assert await read_tokens(suspect) == reply(suspect)
        assert [await read_tokens(ticket) for ticket in others] == [reply(ticket) for ticket in others]

    assert play(script).dispatcher.status().counts.quarantined == 0


def test_who_kills_alone_is_refused() -> None:
    """The third death is proof: it is refused, never to be tried again, and the next one is served."""

    async def script(office: Office) -> None:
        begin(office)
        (suspect,) = suspects(office)
        office.worker().die(verdict=SUSPECT)
        with pytest.raises(RequestFailedError, match="alone") as failure:
            assert await read_tokens(suspect)
        assert (failure.value.code, failure.value.retryable) == ("worker_lost", False)
        worker = office.worker()
        innocent = office.submit(9)
        await finish(office, worker)
        assert await read_tokens(innocent) == reply(innocent)

    counts = play(script).dispatcher.status().counts
    assert (counts.quarantined, counts.failed) == (1, 1)


def test_a_single_request_is_not_guilty_of_being_single() -> None:
    """Being alone on a desk at the first death proves nothing."""

    async def script(office: Office) -> None:
        office.worker().die(verdict=SUSPECT)
        worker = office.worker()
        ticket = office.submit()
        worker.step()
        worker.die(verdict=SUSPECT)
        last = office.worker()
        await finish(office, last)
        assert await read_tokens(ticket) == reply(ticket)

    play(script)


def test_suspects_run_one_after_another() -> None:
    """Of several the first runs alone until it has lived beyond what was deadly; then it makes room for the next, and
    all go on together when none is left."""

    async def script(office: Office) -> None:
        begin(office)
        tickets = suspects(office, 3)
        worker = office.worker(max_sequences=8)
        bystander = office.submit(9)
        for number in range(3):
            assert prompts(worker) == [number]
            worker.step(TRIAL_TOKENS - 1)
            assert prompts(worker) == [number]
            worker.step()
        assert sorted(prompts(worker)) == [0, 1, 2, 9]
        await finish(office, worker)
        for ticket in (*tickets, bystander):
            assert await read_tokens(ticket) == reply(ticket)

    play(script)


def test_a_culprit_among_suspects() -> None:
    """The one that kills is refused; the others are tried and cleared, with no further death."""

    async def script(office: Office) -> None:
        begin(office)
        tickets = suspects(office, 3)
        worker = office.worker()
        worker.step(TRIAL_TOKENS)
        assert prompts(worker) == [1]
        worker.die(verdict=SUSPECT)
        assert isinstance(tickets[1].ending, RequestFailedError)
        worker = office.worker()
        await finish(office, worker)
        for ticket in (tickets[0], tickets[2]):
            assert await read_tokens(ticket) == reply(ticket)

    assert play(script, max_failovers=2).dispatcher.status().counts.quarantined == 1


def test_in_doubt_alone() -> None:
    """Two deaths that are not judged yet are reason enough to run alone; a verdict that clears it opens the desk."""

    async def script(office: Office) -> None:
        begin(office)
        ticket = office.submit(0)
        first, second, third = (office.worker(f"cpu{number}") for number in range(3))
        first.vanish()
        second.vanish()
        assert prompts(third) == [0]
        waiting = office.submit(1)
        assert prompts(third) == [0]
        first.be_judged(Verdict.INNOCENT)
        assert prompts(third) == [0, 1]
        second.be_judged(SUSPECT)
        await finish(office, third)
        assert await read_tokens(ticket) == reply(ticket)
        assert await read_tokens(waiting) == reply(waiting)

    play(script)


def test_in_doubt_in_quarantine() -> None:
    """A suspect that waits to run alone and is cleared meanwhile goes on with others, ahead of who is new."""

    async def script(office: Office) -> None:
        first, second = office.worker("cpu0"), office.worker("cpu1")
        busy = office.submit(9, max_tokens=100)
        ticket = office.submit(0)
        assert (prompts(first), prompts(second)) == ([9], [0])
        second.vanish()
        assert prompts(first) == [9, 0]
        third = office.worker("cpu2")
        third.leave()
        first.vanish()
        begin(office)
        assert office.dispatcher.status().waiting == 2
        first.be_judged(Verdict.INNOCENT)
        second.be_judged(SUSPECT)
        new = office.submit(5)
        last = office.worker("cpu3")
        assert prompts(last) == [0, 9, 5] or prompts(last) == [9, 0, 5]
        third.die()
        await finish(office, last)
        for each in (busy, ticket, new):
            assert await read_tokens(each) == reply(each)

    play(script)


def test_nobody_is_at_risk_before_the_verdict() -> None:
    """A suspect that has lost the worker where it was alone is handed to nobody until that is judged; if it was not
    to blame, it is tried again."""

    async def script(office: Office) -> None:
        begin(office)
        (suspect,) = suspects(office)
        worker = office.worker("cpu0")
        worker.vanish()
        other = office.worker("cpu1")
        assert prompts(other) == []
        innocent = office.submit(5)
        assert prompts(other) == [5]
        await finish_one(innocent, other)
        worker.be_judged(Verdict.INNOCENT)
        assert prompts(other) == [0]
        await finish(office, other)
        assert await read_tokens(suspect) == reply(suspect)

    play(script)


async def finish_one(ticket: Ticket, worker: PlayedWorker) -> None:
    while ticket.ending is None:
        worker.step(4)
    assert await read_tokens(ticket) == reply(ticket)


def test_a_desk_is_kept_free_for_who_waits_long() -> None:
    """When no desk happens to be empty, one takes nothing new until it is; with one worker everybody waits behind."""

    async def script(office: Office) -> None:
        begin(office)
        worker = office.worker("cpu1")
        running = office.submit(8, max_tokens=50)
        pair = [office.worker("cpu2"), office.worker("cpu3")]
        suspect = office.submit(0, max_tokens=60)
        for other in pair:
            other.die(verdict=SUSPECT)
        assert prompts(worker) == [8]
        before = office.submit(9, max_tokens=60)
        worker.step()
        assert prompts(worker) == [8, 9]
        await asyncio.sleep(PATIENCE_SECONDS + 1)
        after = office.submit(10)
        worker.step()
        assert prompts(worker) == [8, 9]
        while sorted(prompts(worker)) != [0]:
            worker.step()
        worker.step(TRIAL_TOKENS)
        assert prompts(worker) == [0, 10]
        await finish(office, worker)
        for ticket in (running, suspect, before, after):
            assert await read_tokens(ticket) == reply(ticket)

    play(script)


def test_a_desk_that_was_kept_free_in_vain() -> None:
    """Where the suspect finds another desk, or leaves, the one that was kept free takes what comes again."""

    async def script(office: Office) -> None:
        begin(office)
        worker = office.worker("cpu1")
        running = office.submit(8, max_tokens=50)
        pair = [office.worker("cpu2"), office.worker("cpu3")]
        suspect = office.submit(0, max_tokens=60)
        for other in pair:
            other.die(verdict=SUSPECT)
        await asyncio.sleep(PATIENCE_SECONDS + 1)
        worker.step()
        new = office.submit(10)
        assert prompts(worker) == [8]
        suspect.close()
        assert prompts(worker) == [8, 10]
        await finish(office, worker)
        for ticket in (running, new):
            assert await read_tokens(ticket) == reply(ticket)

    play(script)


def test_choices_are_refused_together() -> None:
    """One request in four choices costs three workers, not three for each."""

    async def script(office: Office) -> None:
        begin(office)
        requests = [ask(0, max_tokens=50) for _ in range(4)]
        choices = office.dispatcher.submit_choices(requests)
        for _ in range(3):
            office.worker().die(verdict=SUSPECT)
        with pytest.raises(RequestFailedError):
            await anext(choices)
        assert office.idle

    assert play(script).dispatcher.status().counts.quarantined == 1


class Poison:
    """Workers that die of certain requests, at certain tokens; verdicts and next lives that come late."""

    def __init__(self, office: Office, *, workers: int, deadly: dict[int, int]) -> None:
        self.office = office
        self.deadly = deadly
        """By first token of the prompt: how many tokens are said before it kills."""
        self.deaths = 0
        self.lives = 0
        self.workers = [self.new_worker() for _ in range(workers)]
        self.unjudged: list[PlayedWorker] = []
        self.missing = 0

    def new_worker(self) -> PlayedWorker:
        self.lives += 1
        return self.office.worker(f"w{self.lives}", max_sequences=8)

    def step(self, worker: PlayedWorker, tokens: int) -> None:
        """A worker computes one token at a time, and what it computes when it dies is lost."""
        for _ in range(tokens):
            if worker not in self.workers:
                return
            for number, position in list(worker.positions.items()):
                submit = next(each for each in worker.submitted if each.request_id == number)
                if position >= self.deadly.get(submit.prompt.token_ids[0], 1 << 30):
                    self.kill(worker)
                    return
            worker.step()

    def kill(self, worker: PlayedWorker) -> None:
        self.workers.remove(worker)
        self.deaths += 1
        self.missing += 1
        worker.vanish()
        self.unjudged.append(worker)

    def judge(self) -> None:
        if self.unjudged:
            self.unjudged.pop(0).be_judged(SUSPECT)

    def revive(self) -> None:
        if self.missing:
            self.missing -= 1
            self.workers.append(self.new_worker())


POISONS = st.dictionaries(st.integers(0, 11), st.integers(0, 60), min_size=1, max_size=3)
ROUNDS = st.lists(
    st.tuples(st.sampled_from(["step", "step", "judge", "revive"]), st.integers(0, 3), st.integers(1, 20))
)


@settings(max_examples=150)
@given(POISONS, ROUNDS, st.integers(1, 3))
def test_exactly_the_poisonous_are_refused(
    deadly: dict[int, int], rounds: list[tuple[str, int, int]], workers: int
) -> None:
    """Among twelve requests one to three kill their workers: those are refused after three deaths each at most, and
    all others say what they would have said."""

    async def script(office: Office) -> None:
        play = Poison(office, workers=workers, deadly=deadly)
        tickets = [office.submit(number, max_tokens=70) for number in range(12)]
        for act, index, tokens in [*rounds, *[("step", index % 3, 5) for index in range(1000)]]:
            if act == "step" and play.workers:
                play.step(play.workers[index % len(play.workers)], tokens)
            elif act == "judge":
                play.judge()
            elif act == "revive":
                play.revive()
            if tokens == 5:
                play.judge()
                play.revive()
            if office.idle:
                break
        assert office.idle
        for number, ticket in enumerate(tickets):
            if number in deadly:
                with pytest.raises(GemmadError):
                    await read_tokens(ticket)
                assert len(ticket.said) == deadly[number]
            else:
                assert await read_tokens(ticket) == reply(ticket)
        assert play.deaths <= 3 * len(deadly)
        while play.unjudged:
            play.judge()

    counts = play(script).dispatcher.status().counts
    assert counts.failed == counts.quarantined == len(deadly)
    assert counts.finished == 12 - len(deadly)


def test_sampling_is_kept() -> None:
    """A request that is tried alone is the same request: its seed and its limits go along."""

    async def script(office: Office) -> None:
        begin(office)
        (suspect,) = suspects(office)
        worker = office.worker()
        assert worker.submitted[0].sampling == suspect.request.sampling == SamplingParams(max_tokens=200)
        assert worker.submitted[0].prompt == Prompt((0,))
        assert worker.submitted[0].generated == tuple(suspect.said)
        suspect.close()

    play(script)
