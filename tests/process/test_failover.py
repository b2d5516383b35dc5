"""Dispatcher and pool over real workers that die: no request fails and no token is lost, repeated or out of order."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import statistics
import time
from pathlib import Path

import httpx
import pytest

from gemmad.config.schema import DispatchSection
from gemmad.dispatch.dispatcher import Dispatcher
from gemmad.dispatch.ticket import Progress, Request, Ticket
from gemmad.errors import InvalidRequestError, UnavailableError
from gemmad.generation import FinishReason, ImageSpan, Prompt, SamplingParams
from gemmad.media.pixels import Pixels, seal
from gemmad.supervisor.lifecycle import State
from tests.fakes.worker import Behaviour, Faults, expected_reply
from tests.process.daemon import MODEL, start_fake
from tests.process.supervised import Watched, supervise


def new_dispatcher(*, max_failovers: int = 1000) -> Dispatcher:
    section = DispatchSection(max_failovers=max_failovers)
    return Dispatcher(section=lambda: section)


def dispatcher_of(watched: Watched) -> Dispatcher:
    assert isinstance(watched.listener, Dispatcher)
    return watched.listener


async def until_ready(watched: Watched, workers: int = 1) -> None:
    await watched.until(lambda: dispatcher_of(watched).status().workers_ready == workers)


def submit(watched: Watched, number: int, *, max_tokens: int = 60) -> Ticket:
    request = Request(prompt=Prompt((1, 2, number)), sampling=SamplingParams(max_tokens=max_tokens, seed=number))
    return dispatcher_of(watched).submit(request)


async def check(ticket: Ticket) -> None:
    """Read to the end, and compare with the one right reply."""
    progress: list[Progress] = [each async for each in ticket]
    tokens = tuple(token for each in progress for token in each.token_ids)
    assert (tokens, progress[-1].finish) == expected_reply(ticket.request.prompt, ticket.request.sampling)


async def ask_often(watched: Watched, count: int) -> None:
    async with asyncio.TaskGroup() as group:
        for number in range(count):
            group.create_task(check(submit(watched, number)))


def test_workers_are_killed_all_the_time() -> None:
    """Two workers, one of them killed again and again: sixty replies are what they would have been."""

    async def kill(watched: Watched) -> None:
        chance = random.Random(1)
        while True:
            await asyncio.sleep(0.4)
            pids = [status.pid for status in watched.pool.status() if status.pid and status.state is State.READY]
            if pids:
                os.kill(chance.choice(pids), signal.SIGKILL)

    async def script(watched: Watched) -> None:
        await until_ready(watched, 2)
        killer = asyncio.create_task(kill(watched))
        await ask_often(watched, 60)
        killer.cancel()
        status = dispatcher_of(watched).status()
        assert (status.counts.finished, status.counts.failed, status.running, status.waiting) == (60, 0, 0, 0)
        assert status.counts.failovers > 0

    pauses = {"restart_budget": 10_000, "restart_pause": 0.01, "restart_pause_limit": 0.02}
    supervise(new_dispatcher, Behaviour(step_seconds=0.003), script, seats=2, **pauses)


@pytest.mark.parametrize(
    "faults",
    [
        Faults(crash_after_tokens=25),
        Faults(hang_after_tokens=25),
        Faults(garbage_after_tokens=25),
        Faults(hang_up_after_tokens=25),
        Faults(overrun=True),
        Faults(stranger=True),
    ],
)
def test_one_worker_that_fails_goes_on_in_its_next_life(faults: Faults) -> None:
    """With a single worker the requests wait for its next life, and nobody notices."""

    async def script(watched: Watched) -> None:
        await until_ready(watched)
        await ask_often(watched, 8)
        assert watched.status.life == 2
        assert watched.status.last_error

    supervise(new_dispatcher, Behaviour(faults=faults, faulty_lives=1), script, hang_timeout=0.4, stop_grace=0.4)


def test_a_worker_that_talks_after_the_end_is_stopped() -> None:
    """A finished request stays what it was, and the worker that went on with it is killed as broken."""

    async def script(watched: Watched) -> None:
        await until_ready(watched)
        await check(submit(watched, 1))
        await watched.until_state(State.READY, life=2)
        assert "has ended and goes on" in (watched.status.last_error or "")

    supervise(new_dispatcher, Behaviour(faults=Faults(talk_after_end=True), faulty_lives=1), script)


def test_a_recycle_under_load_is_not_noticed() -> None:
    """A worker is restarted while it serves, and every reply is whole."""

    async def script(watched: Watched) -> None:
        await until_ready(watched)
        async with asyncio.TaskGroup() as group:
            for number in range(12):
                group.create_task(check(submit(watched, number)))
            await asyncio.sleep(0.03)
            watched.pool.restart("cpu0", grace_seconds=0.05)
        assert (watched.status.life, watched.status.faults) == (2, 0)

    supervise(new_dispatcher, Behaviour(step_seconds=0.005), script)


def test_the_next_token_comes_at_once() -> None:
    """When a worker is killed, another one that is ready goes on with its replies within a tenth of a second."""

    async def script(watched: Watched) -> None:
        pauses = []
        for number in range(5):
            await until_ready(watched, 2)
            with submit(watched, number, max_tokens=100_000) as ticket:
                await anext(ticket)
                desk = next(worker for worker, desk in dispatcher_of(watched)._desks.items() if desk.entries)
                pid = next(status.pid for status in watched.pool.status() if status.name == desk.name)
                assert pid is not None
                os.kill(pid, signal.SIGKILL)
                killed_at, said = time.monotonic(), len(ticket.said)
                await watched.until(lambda ticket=ticket: ticket.failovers == 1)  # type: ignore[misc]
                while len(ticket.said) == said:
                    await anext(ticket)
                pauses.append(time.monotonic() - killed_at)
        assert statistics.median(pauses) < 0.1

    pauses = {"restart_budget": 10_000, "restart_pause": 0.01, "restart_pause_limit": 0.02}
    supervise(new_dispatcher, Behaviour(step_seconds=0.005), script, seats=2, **pauses)


def test_a_rejected_request_is_told_why() -> None:
    """What the worker will never serve is the client's error, in the worker's words."""

    async def script(watched: Watched) -> None:
        await until_ready(watched)
        with pytest.raises(InvalidRequestError, match="no such luck"):
            await check(submit(watched, 1))

    supervise(new_dispatcher, Behaviour(faults=Faults(reject="no such luck")), script)


def test_pictures_follow_a_request_to_its_next_worker() -> None:
    """Descriptors arrive with each submission; the fake takes as many as the prompt has images."""

    async def script(watched: Watched) -> None:
        await until_ready(watched)
        pixels = tuple(Pixels(seal(bytes(12)), digest="d", height=2, width=2) for _ in range(3))
        prompt = Prompt(tuple(range(30)), tuple(ImageSpan(10 * number, 5, "d") for number in range(3)))
        request = Request(prompt=prompt, sampling=SamplingParams(max_tokens=40), pixels=pixels)
        await check(dispatcher_of(watched).submit(request))
        assert all(each.fd == -1 for each in pixels)
        assert watched.status.life == 2

    supervise(new_dispatcher, Behaviour(faults=Faults(crash_after_tokens=20), faulty_lives=1), script)


def test_a_client_that_leaves_frees_the_worker() -> None:
    """After close the worker stops computing the request, long before it would have been done."""

    async def script(watched: Watched) -> None:
        await until_ready(watched)
        with submit(watched, 1, max_tokens=100_000) as ticket:
            await anext(ticket)
        await watched.until(lambda: watched.status.load is not None and watched.status.load.generated_tokens > 0)
        await watched.until(lambda: watched.status.load is not None and watched.status.load.running == 0)

    supervise(new_dispatcher, Behaviour(), script)


def test_before_the_first_ready_and_after_the_last_failure() -> None:
    """Requests are refused while the first worker loads, and once all have failed; with honest words."""

    async def script(watched: Watched) -> None:
        with pytest.raises(UnavailableError, match="loading"):
            submit(watched, 1)
        await watched.until_state(State.FAILED)
        with pytest.raises(UnavailableError, match="No worker"):
            submit(watched, 1)

    supervise(new_dispatcher, Behaviour(load_seconds=0.1, faults=Faults(load_exit=3)), script)


def test_echo_and_fixed_replies() -> None:
    """The fake worker can say the prompt, or what a test wants to read, and ends with a stop id."""

    async def ask(watched: Watched, sampling: SamplingParams) -> tuple[tuple[int, ...], FinishReason | None]:
        ticket = dispatcher_of(watched).submit(Request(prompt=Prompt((7, 8, 9)), sampling=sampling))
        progress = [each async for each in ticket]
        return tuple(token for each in progress for token in each.token_ids), progress[-1].finish

    async def say_fixed(watched: Watched) -> None:
        await until_ready(watched)
        stop = SamplingParams(max_tokens=9, stop_token_ids=(106,))
        assert await ask(watched, stop) == ((40, 41, 106), FinishReason.STOP)
        assert await ask(watched, SamplingParams(max_tokens=9)) == ((40, 41), FinishReason.STOP)
        assert await ask(watched, SamplingParams(max_tokens=1)) == ((40,), FinishReason.LENGTH)

    async def say_echo(watched: Watched) -> None:
        await until_ready(watched)
        assert await ask(watched, SamplingParams(max_tokens=4)) == ((7, 8, 9, 7), FinishReason.LENGTH)

    supervise(new_dispatcher, Behaviour(reply=(40, 41)), say_fixed)
    supervise(new_dispatcher, Behaviour(reply="echo"), say_echo)


def test_a_stream_is_held_until_the_worker_is_back(tmp_path: Path) -> None:
    """A client of the only worker, which crashes in the middle of its reply, gets comments while the next life loads,
    and then the rest of what it would have been told on a calm day."""
    body = {
        "model": MODEL,
        "messages": [{"role": "user", "content": "Hi"}],
        "stream": True,
        "max_tokens": 60,
        "seed": 7,
    }
    faults = Faults(crash_after_tokens=20)
    behaviour = Behaviour(step_seconds=0.01, load_seconds=0.8, faults=faults, faulty_lives=1)
    with start_fake(tmp_path, behaviour, server__ping_every=0.1, workers__restart_pause=0.05) as daemon:
        daemon.wait_ready()
        wild, calm = (httpx.post(f"{daemon.base_url}/chat/completions", json=body, timeout=60).text for _ in range(2))
        assert daemon.metric("gemmad_failovers_total") == 1
    assert said_in(wild) == said_in(calm) != ""
    assert wild.endswith("data: [DONE]\n\n")
    in_the_middle = wild[wild.index('"content":"') : wild.rindex('"content":"')]
    assert in_the_middle.count("\n\n: ") >= 3


def said_in(events: str) -> str:
    """The text of a stream."""
    chunks = [json.loads(line[6:]) for line in events.splitlines() if line.startswith("data: {")]
    return "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks)
