"""Requests that workers die of, over real workers: they are found, and nobody else fails."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from typing import Any

import pytest
from openai import InternalServerError

import gemmad.demo
from gemmad.errors import RequestFailedError
from gemmad.supervisor.lifecycle import State
from gemmad.text.checkpoint import TextModel
from tests.clients import run_async
from tests.fakes.worker import Behaviour, Faults
from tests.process.daemon import MODEL, start_fake
from tests.process.supervised import Watched, supervise
from tests.process.test_failover import check, dispatcher_of, new_dispatcher, submit, until_ready

POISON = 666
"""In the prompt of one request."""
PATIENT = {"restart_budget": 10_000, "restart_pause": 0.01, "restart_pause_limit": 0.02}


async def ask_all(watched: Watched, *, innocents: int = 20, max_tokens: int = 40) -> None:
    """Innocent requests that must be answered right, and among them one that must be refused."""

    async def ask_poisonous() -> None:
        with pytest.raises(RequestFailedError) as failure:
            await check(submit(watched, POISON, max_tokens=max_tokens))
        assert (failure.value.code, failure.value.retryable) == ("worker_lost", False)

    async with asyncio.TaskGroup() as group:
        for number in range(innocents):
            if number == innocents // 2:
                group.create_task(ask_poisonous())
            group.create_task(check(submit(watched, number, max_tokens=max_tokens)))


def lives(watched: Watched) -> int:
    return sum(status.life for status in watched.pool.status())


@pytest.mark.parametrize("after", [0, 1, 13])
@pytest.mark.parametrize("seats", [1, 2])
def test_exactly_the_poisonous_one_is_refused(seats: int, after: int) -> None:
    """Of twenty-one requests the one that crashes its worker, at once or in the middle of its reply, costs three
    workers at most and is refused; the others say what they would have said."""

    async def script(watched: Watched) -> None:
        await until_ready(watched, seats)
        await ask_all(watched)
        counts = dispatcher_of(watched).status().counts
        assert (counts.finished, counts.failed, counts.quarantined) == (20, 1, 1)
        assert lives(watched) - seats <= 3
        await check(submit(watched, 1))

    faults = Faults(poison_token=POISON, poison_after=after, crash_with=-signal.SIGSEGV)
    supervise(new_dispatcher, Behaviour(faults=faults, max_sequences=16), script, seats=seats, **PATIENT)


def test_a_request_that_hangs_its_worker() -> None:
    """A hang is a death like any other: who is the cause is found, and the others go on."""

    async def script(watched: Watched) -> None:
        await until_ready(watched)
        await ask_all(watched, innocents=4, max_tokens=20)
        assert lives(watched) == 1 + 3

    faults = Faults(poison_token=POISON, poison_hangs=True)
    times = {"hang_timeout": 0.5, "stop_grace": 0.5}
    supervise(new_dispatcher, Behaviour(faults=faults), script, **times, **PATIENT)


def test_who_is_killed_from_outside_marks_nobody() -> None:
    """Twenty kills cost no request anything, even where none may lose a worker to its own fault."""

    async def script(watched: Watched) -> None:
        await until_ready(watched)
        asked = asyncio.create_task(check(submit(watched, 1, max_tokens=300)))
        for life in range(1, 21):
            status = await watched.until_state(State.READY, life=life)
            assert status.pid is not None
            os.kill(status.pid, signal.SIGKILL)
        await asked
        counts = dispatcher_of(watched).status().counts
        assert (counts.finished, counts.failovers, counts.quarantined) == (1, 20, 0)

    supervise(lambda: new_dispatcher(max_failovers=0), Behaviour(step_seconds=0.005), script, **PATIENT)


def test_recycles_mark_nobody() -> None:
    """Drains that run out of time move requests on, again and again, and that is no fault of theirs."""

    async def script(watched: Watched) -> None:
        await until_ready(watched)
        asked = asyncio.create_task(check(submit(watched, 1, max_tokens=200)))
        for life in range(1, 6):
            await watched.until_state(State.READY, life=life)
            watched.pool.restart("cpu0", grace_seconds=0.02)
        await asked
        counts = dispatcher_of(watched).status().counts
        assert (counts.finished, counts.failed, counts.quarantined) == (1, 0, 0)
        assert counts.failovers >= 4

    supervise(lambda: new_dispatcher(max_failovers=0), Behaviour(step_seconds=0.005), script, **PATIENT)


def test_a_daemon_refuses_it(tmp_path: Path) -> None:
    """Through the official SDK with retries: one client gets an error that it does not try again, the others get their
    replies, and the log tells which request it was and nothing of what it said."""
    text = TextModel.load(Path(gemmad.demo.__file__).parent / "checkpoint")
    (poison,) = text.encode_plain([" purple"])[0]
    faults = Faults(poison_token=poison, crash_with=-signal.SIGSEGV)
    with start_fake(tmp_path, Behaviour(faults=faults), workers__restart_pause=0.05, workers__count=2) as daemon:
        daemon.wait_ready()

        async def ask(client: Any, words: str) -> str:
            reply = await client.chat.completions.create(
                model=MODEL,
                messages=[{"role": "user", "content": words}],
                max_tokens=20,
                extra_headers={"x-request-id": words.replace(" ", "-")},
            )
            assert reply.usage.completion_tokens > 0
            return str(reply.choices[0].finish_reason)

        async def talk() -> list[Any]:
            async with daemon.async_client(timeout=60, max_retries=2) as client:
                innocents = [ask(client, f"number {number}") for number in range(20)]
                return await asyncio.gather(ask(client, "the purple one"), *innocents, return_exceptions=True)

        refused, *answered = run_async(talk())
        assert isinstance(refused, InternalServerError)
        assert refused.code == "worker_lost"
        assert refused.response.headers["x-should-retry"] == "false"
        assert {*answered} <= {"length", "stop"}
        assert daemon.metric("gemmad_quarantined_requests_total") == 1
        starts = sum(daemon.metric(f'gemmad_worker_starts_total{{worker="cpu{number}"}}') for number in range(2))
        assert starts <= 2 + 3
        (event,) = daemon.events("request refused, workers die of it")
        assert event["request_id"] == "the-purple-one"
        assert event["deaths"] == 3
        assert len([line for line in daemon.events("request finished") if line["request_id"] == "the-purple-one"]) == 1
