"""A configuration is edited under load: 32 streams at a time, and none of them notices."""

from __future__ import annotations

import asyncio
import shlex
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from gemmad.config.schema import RecycleSection
from gemmad.generation import EngineSettings
from gemmad.protocol.messages import EXIT_SETTINGS
from gemmad.supervisor.lifecycle import State
from tests.clients import run_async
from tests.fakes.worker import Behaviour, command
from tests.process.daemon import DaemonProcess, start_fake
from tests.process.supervised import Watched, supervise
from tests.process.test_control import gemmad, see
from tests.process.test_failover import check, dispatcher_of, new_dispatcher, submit, until_ready
from tests.process.test_recycle import FULL, stream_of

STREAMS = 32
GOOD = "[dispatch]\nmax_waiting = 77\n[engine]\nmax_sequences = 40\n"


async def until_event(daemon: DaemonProcess, event: str, **fields: Any) -> dict[str, Any]:
    """The first log line like this, once there is one."""
    async with asyncio.timeout(60):
        while True:
            found = [line for line in daemon.events(event) if fields.items() <= line.items()]
            if found:
                return found[0]
            assert daemon.process.poll() is None, daemon.log
            await asyncio.sleep(0.02)


class Load:
    """Streams that begin anew whenever they end; `ended` are their texts."""

    def __init__(self) -> None:
        self.ended: list[tuple[str, str]] = []

    async def more(self, count: int = STREAMS) -> None:
        """Return once so many more have ended, so that what was done before met all that ran."""
        wanted = len(self.ended) + count
        async with asyncio.timeout(60):
            while len(self.ended) < wanted:
                await asyncio.sleep(0.01)


@asynccontextmanager
async def load(daemon: DaemonProcess, questions: list[str]) -> AsyncIterator[Load]:
    """STREAMS streams at any time; any that fails, fails the test."""
    streams, over = Load(), asyncio.Event()

    async def keep_asking(question: str) -> None:
        while not over.is_set():
            streams.ended.append((question, await stream_of(client, question)))

    async with daemon.async_client() as client, asyncio.TaskGroup() as group:
        for number in range(STREAMS):
            group.create_task(keep_asking(questions[number % len(questions)]))
        try:
            yield streams
        finally:
            over.set()


def test_edits_under_streams(tmp_path: Path) -> None:
    """A live key, a recycle key, a mistake and settings that no worker gets ready with: every stream says what it says
    in calm, and after the last two the settings of before are in force and everyone who asks is told why."""
    path = tmp_path / "gemmad.toml"
    path.write_text("")
    serve = [sys.executable, "-m", "gemmad", "serve", "--demo", "--port", "0"]
    env = {"GEMMAD_ENGINE__DEVICE": "cpu", "GEMMAD_CONFIG": str(path)}
    questions = [f"Count to {number}." for number in range(3, 7)]

    async def edit(daemon: DaemonProcess) -> None:
        async with daemon.async_client() as client:
            calm = {question: await stream_of(client, question) for question in questions}
        async with load(daemon, questions) as streams:
            await streams.more()
            path.write_text("[dispatch]\nmax_waiting = 77\n")
            await until_event(daemon, "setting changed", key="dispatch.max_waiting")
            await streams.more()
            path.write_text(GOOD)
            await until_event(daemon, "setting changed", key="engine.max_sequences")
            await streams.more()
            path.write_text(GOOD.replace("40", "'many'"))
            refusal = await until_event(daemon, "config refused, the running one stays")
            assert refusal["errors"] == [f"{path}:4: engine.max_sequences: expected integer, got 'many'"]
            await streams.more()
            path.write_text(GOOD + "[memory]\nkv_bytes = '64KiB'\n")
            await until_event(daemon, "new settings are taken back")
            await streams.more()
        assert all(calm[question] == text for question, text in streams.ended)

    with DaemonProcess(serve, tmp_path, env=env) as daemon:
        daemon.wait_ready()
        run_async(edit(daemon))
        seen = see(daemon)
        told, worker = seen.config.reload, seen.workers[0]
        assert told is not None
        assert not told.ok
        (reason,) = told.errors
        assert reason.startswith("memory.kv_bytes: taken back: worker cpu0 did not get ready with it: ")
        assert (worker.state, worker.life, worker.faults) == ("ready", 2, 0)
        assert worker.capacity is not None
        assert worker.capacity.max_sequences == 40
        assert daemon.metric("gemmad_config_reload_success") == 0
        assert (seen.requests.failed, seen.requests.refused) == (0, 0)
        again = gemmad(daemon, "reload", "--wait")
        assert (again.returncode, reason in again.stderr) == (1, True)
        path.write_text(GOOD)
        assert gemmad(daemon, "reload", "--wait").returncode == 0
        assert daemon.metric("gemmad_config_reload_success") == 1
        assert daemon.stop() == 0


def write_as_vim(path: Path, text: str) -> None:
    path.rename(path.with_name("gemmad.toml~"))
    path.write_text(text)
    path.with_name("gemmad.toml~").unlink()


def write_as_sed(path: Path, text: str) -> None:
    expression = f"s/max_waiting = .*/{text.strip().splitlines()[-1]}/"
    subprocess.run(["sed", "-i", expression, str(path)], check=True)


def write_as_kubernetes(path: Path, text: str) -> None:
    version = path.parent / f"..{time.monotonic_ns()}"
    version.mkdir()
    (version / path.name).write_text(text)
    (path.parent / "..data_tmp").symlink_to(version.name)
    (path.parent / "..data_tmp").replace(path.parent / "..data")
    if not path.is_symlink():
        path.unlink()
        path.symlink_to(f"..data/{path.name}")


def write_beside(path: Path, text: str) -> None:
    (path.parent / "conf.d").mkdir()
    (path.parent / "conf.d" / "90.toml").write_text(text)


def test_every_way_of_writing_and_a_hundred_edits(tmp_path: Path) -> None:
    """A running daemon takes what vim, sed, Kubernetes and a file beside write, keeps what it has when the file
    vanishes or cannot be read, and after a hundred edits has the last one."""
    path = tmp_path / "etc" / "gemmad.toml"
    path.parent.mkdir()

    def text(number: int) -> str:
        return f"[dispatch]\nmax_waiting = {number}\n"

    def has(number: int) -> bool:
        return any(line["key"] == "dispatch.max_waiting" and line["new"] == number for line in changed())

    def changed() -> list[dict[str, Any]]:
        return daemon.events("setting changed")

    path.write_text(text(1))
    with start_fake(tmp_path, env={"GEMMAD_CONFIG": str(path)}) as daemon:
        daemon.wait_ready()
        for number, write in enumerate((write_as_vim, write_as_sed, write_as_kubernetes, write_as_kubernetes), 2):
            write(path, text(number))
            daemon.wait_until(partial(has, number))
        path.unlink()
        daemon.wait_until(lambda: daemon.metric("gemmad_config_reload_success") == 0)
        path.mkdir()  # not even root can read it
        daemon.wait_until(lambda: "not a regular file" in str(daemon.events("config refused, the running one stays")))
        path.rmdir()
        for number in range(100, 200):
            path.write_text(text(number))
            time.sleep(0.03)
        daemon.wait_until(partial(has, 199))
        assert daemon.metric("gemmad_config_reload_success") == 1
        assert len(changed()) < 30
        write_beside(path, text(7))
        daemon.wait_until(partial(has, 7))
        assert see(daemon).workers[0].life == 1
        assert daemon.stop() == 0


@pytest.mark.parametrize("works", [True, False])
def test_without_room_for_two(tmp_path: Path, works: bool) -> None:
    """On a host that holds one worker it makes way; replies move on, requests wait, all are whole, and whether the next
    life works or not, the one that serves in the end has the settings that do."""
    broken = tmp_path / "broken"
    fake = shlex.join(command(Behaviour(step_seconds=0.005)))
    program = ("sh", "-c", f'test -e {broken} && exit {EXIT_SETTINGS}; exec {fake} "$@"', "sh")
    new = EngineSettings(checkpoint="one", max_sequences=7)

    async def script(watched: Watched) -> None:
        await until_ready(watched)
        endings: list[str | None] = []

        def ended(reason: str | None) -> None:
            endings.append(reason)
            broken.unlink(missing_ok=True)
            if reason is None:
                watched.settings = new

        if not works:
            broken.touch()
        async with asyncio.TaskGroup() as group:
            for number in range(4):
                group.create_task(check(submit(watched, number, max_tokens=60)))
            await asyncio.sleep(0)
            watched.pool.try_settings(lambda seat: new, ended=ended)
            await watched.until(lambda: watched.status.state is not State.READY)
            for number in range(4, 8):
                group.create_task(check(submit(watched, number)))
        assert [reason is None for reason in endings] == [works]
        status = dispatcher_of(watched).status()
        assert (status.counts.finished, status.counts.failed, status.running, status.waiting) == (8, 0, 0, 0)
        assert (watched.status.state, watched.status.life) == (State.READY, 2 if works else 3)
        assert watched.status.faults == 0

    supervise(new_dispatcher, program, script, host=FULL, recycle=RecycleSection(grace=0.05))
