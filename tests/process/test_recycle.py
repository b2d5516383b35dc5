"""Workers are renewed under load, and nobody notices: every reply is what it would have been."""

from __future__ import annotations

import asyncio
import http.client
import sys
from pathlib import Path
from typing import Any

import pytest

from gemmad.config.schema import RecycleSection
from gemmad.supervisor.lifecycle import State
from gemmad.supervisor.surroundings import Host
from tests.clients import run_async
from tests.fakes.worker import Behaviour
from tests.process.daemon import MODEL, DaemonProcess, start_fake
from tests.process.supervised import Watched, captured_logs, supervise
from tests.process.test_failover import ask_often, check, dispatcher_of, new_dispatcher, submit, until_ready

SLOW = Behaviour(step_seconds=0.005, load_seconds=0.2)
FULL = Host(available_bytes=lambda: -1)
"""A host whose memory holds no second worker."""


async def until_recycled(watched: Watched, life: int) -> None:
    """Every worker is in this life or a later one, and no earlier one is left."""

    def over() -> bool:
        return all(
            status.state is State.READY and status.life >= life and status.successor is None and not status.leaving
            for status in watched.pool.status()
        )

    await watched.until(over)


@pytest.mark.parametrize("seats", [1, 2])
def test_beside(seats: int) -> None:
    """The next lives get ready first; running streams finish where they are, and none has to move."""

    async def script(watched: Watched) -> None:
        await until_ready(watched, seats)
        async with asyncio.TaskGroup() as group:
            for number in range(4 * seats):
                group.create_task(check(submit(watched, number, max_tokens=120)))
            watched.pool.recycle()
            await until_recycled(watched, 2)
        status = dispatcher_of(watched).status()
        assert (status.counts.finished, status.counts.failed, status.counts.failovers) == (4 * seats, 0, 0)
        assert [each.faults for each in watched.pool.status()] == [0.0] * seats

    with captured_logs() as logs:
        supervise(new_dispatcher, SLOW, script, seats=seats)
    began = [log["beside"] for log in logs if log["event"] == "worker is recycled"]
    assert began == [True] * seats


@pytest.mark.parametrize("grace", [0.0, 0.05, 30.0])
def test_on_a_device_that_holds_one(grace: float) -> None:
    """The only worker drains first: streams finish or move on, new requests wait, and all are whole."""

    async def script(watched: Watched) -> None:
        await until_ready(watched)
        async with asyncio.TaskGroup() as group:
            for number in range(4):
                group.create_task(check(submit(watched, number, max_tokens=60)))
            await asyncio.sleep(0)
            watched.pool.recycle("cpu0")
            await watched.until(lambda: watched.status.state is not State.READY)
            for number in range(4, 8):
                group.create_task(check(submit(watched, number)))
            await until_recycled(watched, 2)
        status = dispatcher_of(watched).status()
        assert (status.counts.finished, status.counts.failed, status.running, status.waiting) == (8, 0, 0, 0)
        assert watched.status.faults == 0

    with captured_logs() as logs:
        supervise(new_dispatcher, SLOW, script, host=FULL, recycle=RecycleSection(grace=grace))
    assert [log["beside"] for log in logs if log["event"] == "worker is recycled"] == [False]


@pytest.mark.parametrize("host", [None, FULL], ids=["beside", "one after the other"])
def test_again_and_again(host: Host | None) -> None:
    """Two workers that are renewed all the time: sixty replies at a time are what they would have been."""

    async def keep_renewing(watched: Watched) -> None:
        while True:
            watched.pool.recycle()
            await asyncio.sleep(0.02)

    async def script(watched: Watched) -> None:
        await until_ready(watched, 2)
        renewing = asyncio.create_task(keep_renewing(watched))
        asked = 0
        while min(each.life for each in watched.pool.status()) < 4:
            await ask_often(watched, 60)
            asked += 60
        renewing.cancel()
        status = dispatcher_of(watched).status()
        assert (status.counts.finished, status.counts.failed) == (asked, 0)

    recycle = RecycleSection(grace=0.1)
    supervise(new_dispatcher, Behaviour(step_seconds=0.003), script, seats=2, host=host, recycle=recycle)


def test_settings_are_live(tmp_path: Path) -> None:
    """A running daemon that is told to renew its worker every second does so, and serves all the while."""
    path = tmp_path / "gemmad.toml"
    path.write_text("")
    with start_fake(tmp_path, env={"GEMMAD_CONFIG": str(path)}) as daemon:
        daemon.wait_ready()
        assert not daemon.events("worker is recycled")
        path.write_text('[recycle]\nevery = "1s"\ngrace = "0.1s"\n')

        def look() -> bool:
            assert daemon.get("/health")[0] == http.client.OK
            return len(daemon.events("worker recycled")) >= 2

        daemon.wait_until(look)
        path.write_text("")
        assert daemon.stop() == 0


async def stream_of(client: Any, content: str) -> str:
    """The text of one greedy stream."""
    stream = await client.chat.completions.create(
        model=MODEL, messages=[{"role": "user", "content": content}], temperature=0, max_tokens=24, stream=True
    )
    return "".join([chunk.choices[0].delta.content or "" async for chunk in stream])


def test_the_real_worker_is_renewed_under_streams(tmp_path: Path) -> None:
    """On the bundled model, streams over renewals say what each of them says in calm."""
    questions = [f"Count to {number}." for number in range(3, 9)]
    command = [sys.executable, "-m", "gemmad", "serve", "--demo", "--port", "0"]
    env = {"GEMMAD_ENGINE__DEVICE": "cpu", "GEMMAD_RECYCLE__AFTER_REQUESTS": "10", "GEMMAD_RECYCLE__GRACE": "0.2s"}

    async def talk(daemon: DaemonProcess) -> None:
        async with daemon.async_client() as client:
            calm = [await stream_of(client, question) for question in questions]
            while not daemon.events("worker recycled"):
                assert await asyncio.gather(*(stream_of(client, question) for question in questions)) == calm

    with DaemonProcess(command, tmp_path, env=env) as daemon:
        daemon.wait_ready()
        run_async(talk(daemon))
        assert daemon.metric("gemmad_requests_running") == 0
        assert not [event for event in daemon.events("worker state") if event["state"] in {"backoff", "failed", "hung"}]
