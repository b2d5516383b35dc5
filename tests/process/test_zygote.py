"""Workers that a zygote has forked: real processes, with a light zygote where torch is not the point."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from gemmad.config.schema import WorkersSection
from gemmad.demo import CHECKPOINT
from gemmad.generation import EngineSettings
from gemmad.supervisor.examine import condition_of
from gemmad.supervisor.installed import Installed
from gemmad.supervisor.pool import Pool, Seat, State
from gemmad.supervisor.process import Process
from tests.fakes.listener import RecordingListener
from tests.fakes.worker import Behaviour, Faults
from tests.fakes.zygote import HELD, hatch, program
from tests.process.daemon import MODEL, is_alive, start_demo
from tests.process.forked import Begun, Stage, ask_one, kept, play
from tests.process.supervised import QUICK, captured_logs, wait_for_exits

ROOT = Path(__file__).resolve().parents[2]


def test_a_fork_is_like_a_spawned_process() -> None:
    """What a forked worker finds (its variables, descriptors, parent, session, signals, threads) is what a spawned one
    finds; the random numbers of two differ."""

    async def script(stage: Stage) -> None:
        told: list[dict[str, Any]] = []
        for step in ("spawned", "forked", "forked"):
            if step == "forked":
                await stage.warm()
            async with Begun(stage, {"OMP_NUM_THREADS": "3"}) as begun:
                await stage.until(lambda begun=begun: begun.codes)  # type: ignore[misc]
                assert begun.codes == [0]
                assert begun.lines[1:] == ["and on standard error"]
                told.append(json.loads(begun.lines[0]))
                assert told[-1]["pid"] == begun.child.pid
        spawned, forked, again = told
        assert stage.plain.count == 1
        assert forked["facts"] == spawned["facts"]
        assert spawned["facts"]["parent"] == os.getpid()
        assert spawned["facts"]["descriptors"] == ["/dev/null", "pipe:[N]", "pipe:[N]", "socket:[N]"]
        assert forked["random"] != again["random"]

    play(lambda: Stage("--probe"), script)


@pytest.mark.parametrize(
    ("faults", "code"),
    [
        (Faults(load_exit=7), 7),
        (Faults(load_exit=-signal.SIGSEGV), -signal.SIGSEGV),
        (Faults(load_exit=0), 0),
    ],
    ids=["status", "signal", "asked"],
)
def test_how_a_fork_ends_is_known(faults: Faults, code: int) -> None:
    """A forked worker's exit status or signal is told like a spawned one's, after its last lines, with the stacks of a
    crash."""

    async def script(stage: Stage) -> None:
        await stage.warm()
        async with Begun(stage, {}) as begun:
            begun.configure()
            await stage.until(lambda: begun.codes)
            assert begun.codes == [code]
            assert begun.lines[0] == "last"
            assert ("Fatal Python error: Segmentation fault" in begun.lines) == (code == -signal.SIGSEGV)
        assert stage.plain.count == 1

    play(lambda: Stage(behaviour=Behaviour(faults=faults, print_lines=("last",))), script)


def test_a_fork_obeys() -> None:
    """It is killed, with what it has started, and asked to end like a worker that was spawned; closing it is enough."""

    async def script(stage: Stage) -> None:
        await stage.warm()
        for end, code in ((Process.kill, -signal.SIGKILL), (Process.terminate, -signal.SIGTERM)):
            async with Begun(stage, {}) as begun:
                await begun.ready()
                (line,) = begun.lines
                assert isinstance(begun.child, Process)
                end(begun.child)
                await stage.until(lambda begun=begun: begun.codes)  # type: ignore[misc]
                assert begun.codes == [code]
                await stage.until(lambda line=line: not is_alive(int(line.split()[1])))  # type: ignore[misc]
            await stage.until(lambda: stage.zygote.spares == 2)
        async with Begun(stage, {}) as begun:
            await begun.ready()
        assert not is_alive(begun.child.pid)
        assert stage.plain.count == 1

    play(lambda: Stage(behaviour=Behaviour(start_child=True)), script)


def test_workers_outlive_the_zygote() -> None:
    """When the zygote is killed, its workers serve on, and another zygote comes."""

    async def script(stage: Stage) -> None:
        await stage.warm()
        async with Begun(stage, {}) as begun:
            await begun.ready()
            await stage.until(lambda: stage.zygote.spares == 2)
            first = stage.zygote.pid
            stage.kill_zygote()
            await stage.until(lambda: stage.zygote.pid not in {None, first} and stage.zygote.spares == 2)
            assert not begun.codes
            heard = await asyncio.to_thread(begun.wire.receive)
            assert heard is not None
            begun.child.terminate()
            await stage.until(lambda: begun.codes)
            assert begun.codes == [-signal.SIGTERM]

    with captured_logs() as events:
        play(Stage, script)
    (gone,) = [event for event in events if event["event"] == "zygote is gone"]
    assert "SIGKILL" in gone["reason"]


def test_a_zygote_killed_at_any_moment_leaves_nothing() -> None:
    """Wherever in its work a zygote dies, all that it has begun is gone and reaped, and the next one works."""

    async def script(stage: Stage) -> None:
        await stage.warm()
        chance = random.Random(1)
        for number in range(12):
            await stage.until(lambda: stage.zygote.pid is not None)
            zygote = stage.zygote.pid
            if number % 2:  # while it forks a spare in the place of another
                await stage.until(lambda: stage.zygote.spares == 2)
                async with Begun(stage, {}):
                    await asyncio.sleep(chance.uniform(0, 0.03))
                    stage.kill_zygote()
            else:  # while it begins
                await asyncio.sleep(chance.uniform(0, 0.4))
                stage.kill_zygote()
            await stage.until(lambda zygote=zygote: stage.zygote.pid != zygote)  # type: ignore[misc]
        await stage.warm()

    play(Stage, script)


@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        (["--threads"], "it has threads: left over"),
        (["--open"], f"{HELD} is open"),
        (["--old"], "its workers would speak version"),
        (["--odd"], "how to call clone is not known"),
    ],
    ids=["thread", "descriptor", "version", "machine"],
)
def test_a_zygote_that_must_not_fork_is_not_used(flags: list[str], reason: str) -> None:
    """One whose imports do not stand a fork says so, once, and workers are spawned; other code is tried again."""

    async def script(stage: Stage) -> None:
        for number in (1, 2):
            async with Begun(stage, {}) as begun:
                await begun.ready()
            stage.zygote.begin()
            await stage.until(lambda number=number: len(gone()) == number)  # type: ignore[misc]
            async with Begun(stage, {}) as begun:
                await begun.ready()
            assert stage.plain.count == 2 * number
            await asyncio.sleep(0.2)  # the pause is over, and nothing comes
            assert len(gone()) == number
            stage.code = Installed(newest=2, modules=1, beside=1)

    def gone() -> list[dict[str, Any]]:
        return [event for event in events if event["event"] == "zygote is gone"]

    with captured_logs() as events:
        play(lambda: Stage(*flags), script)
    assert all(reason in event["reason"] for event in gone())


def test_a_zygote_that_does_not_answer_is_replaced() -> None:
    """Nobody waits for one that is deaf: workers are spawned meanwhile, and it is killed when its time is over."""

    async def script(stage: Stage) -> None:
        async with Begun(stage, {}) as begun:
            await begun.ready()
        stage.zygote.begin()
        await stage.until(lambda: any(event["event"] == "zygote is warm" for event in events))
        first = stage.zygote.pid
        async with Begun(stage, {}) as begun:
            await begun.ready()
        assert stage.plain.count == 2
        await stage.until(lambda: stage.zygote.pid not in {None, first})

    with captured_logs() as events:
        play(lambda: Stage(make=hatch(*program("--deaf"), fork_seconds=0.5)), script)
    assert any("does not fork" in event.get("reason", "") for event in events)


def test_a_spare_that_is_stopped_is_no_worker() -> None:
    """Somebody stopped the spares: a worker is spawned then, and others take their places."""

    async def script(stage: Stage) -> None:
        await stage.warm()
        zygote = stage.zygote.pid
        for pid in _children_like("tests/fakes/zygote.py") - {zygote}:
            os.kill(pid, signal.SIGSTOP)
            await stage.until(lambda pid=pid: condition_of(pid) is not None)  # type: ignore[misc]
        async with Begun(stage, {}) as begun:
            await begun.ready()
        assert stage.plain.count == 2
        await stage.until(lambda: stage.zygote.pid not in {None, zygote} and stage.zygote.spares == 2)

    play(Stage, script)


def test_a_spare_that_is_killed_is_replaced() -> None:
    """It is reaped, and workers are forked as before."""

    async def script(stage: Stage) -> None:
        await stage.warm()
        zygote = stage.zygote.pid
        os.kill(max(_children_like("tests/fakes/zygote.py") - {zygote}), signal.SIGKILL)
        await stage.until(lambda: stage.zygote.pid not in {None, zygote} and stage.zygote.spares == 2)
        async with Begun(stage, {}) as begun:
            await begun.ready()
        assert stage.plain.count == 1

    play(Stage, script)


def test_spares_that_have_died_unnoticed_are_no_workers() -> None:
    """Whoever takes one before its end was seen spawns instead."""

    async def script(stage: Stage) -> None:
        await stage.warm()
        spares = _children_like("tests/fakes/zygote.py") - {stage.zygote.pid}
        pidfds = [os.pidfd_open(pid) for pid in spares]
        for pid in spares:
            os.kill(pid, signal.SIGKILL)
        assert wait_for_exits(pidfds)  # the loop has not turned since
        async with Begun(stage, {}) as begun:
            await begun.ready()
        assert stage.plain.count == 2
        await stage.until(lambda: stage.zygote.spares == 2)

    play(Stage, script)


def test_only_like_workers_come_of_a_zygote() -> None:
    """A variable that imports may have read has to be the zygote's own; its GPU and its threads are the worker's."""

    async def script(stage: Stage) -> None:
        await stage.warm()
        async with Begun(stage, {"TORCH_SHOW_CPP_STACKTRACES": "1"}) as begun:
            await begun.ready()
        assert stage.plain.count == 2
        async with Begun(stage, {"CUDA_VISIBLE_DEVICES": "GPU-2", "OMP_NUM_THREADS": "5"}) as begun:
            await begun.ready()
        assert stage.plain.count == 2

    play(Stage, script)


def test_a_zygote_is_dropped_with_its_reason() -> None:
    """One older than the code on disk forks no worker and is replaced; one that the settings do not want just goes."""

    async def script(stage: Stage) -> None:
        await stage.warm()
        first = stage.zygote.pid
        stage.code = Installed(newest=2, modules=1, beside=1)
        async with Begun(stage, {}) as begun:
            await begun.ready()
        assert stage.plain.count == 2
        await stage.until(lambda: stage.zygote.pid not in {None, first} and stage.zygote.spares == 2)
        stage.wanted = False
        async with Begun(stage, {}) as begun:
            await begun.ready()
        assert stage.plain.count == 3
        assert stage.zygote.pid is None

    play(Stage, script)


def test_a_zygote_that_cannot_be_started() -> None:
    """Workers are spawned, and it is tried again."""

    async def script(stage: Stage) -> None:
        async with Begun(stage, {}) as begun:
            await begun.ready()
        stage.zygote.begin()
        await stage.until(lambda: len(events) >= 2)
        async with Begun(stage, {}) as begun:
            await begun.ready()
        assert stage.plain.count == 2

    with captured_logs() as events:
        play(lambda: Stage(make=hatch("/nowhere/python")), script)
    assert "cannot be started" in events[0]["reason"]


def test_two_seats_whose_workers_die_together() -> None:
    """Both begin their next lives as forks, and the pool is whole again."""

    async def script(stage: Stage) -> None:
        listener = RecordingListener()
        section = WorkersSection(**QUICK)
        pool = Pool(
            [Seat(f"cpu{number}", "cpu", {}) for number in range(2)],
            section=lambda: section,
            settings=lambda seat: EngineSettings(checkpoint="one"),
            listener=listener,
            spawn=stage.zygote,
        )
        async with asyncio.TaskGroup() as group:
            group.create_task(pool.run())
            await stage.until(lambda: len(listener.workers) == 2)
            await stage.warm()
            for status in pool.status():
                assert status.pid is not None
                os.kill(status.pid, signal.SIGKILL)
            await stage.until(lambda: all((status.state, status.life) == (State.READY, 2) for status in pool.status()))
            assert stage.plain.count == 2
            await pool.stop()

    play(Stage, script)


def test_a_forked_worker_says_what_a_spawned_one_says() -> None:
    """The real worker, forked, is ready without its imports, gives the same tokens, and looks like a worker to `ps`."""
    settings = EngineSettings(checkpoint=str(CHECKPOINT), kv_bytes=64 << 20)

    async def script(stage: Stage) -> None:
        stage.zygote = stage.real_zygote()
        async with kept(stage.zygote):
            spawned, slow = await ask_one(stage, visible="", settings=settings)
            stage.zygote.begin()
            await stage.until(lambda: stage.zygote.spares == 2)
            forked, quick = await ask_one(stage, visible="", settings=settings)
        assert forked == spawned
        assert quick["imports"] < slow["imports"] / 3

    play(Stage, script)


IMPORTED = """
import sys
from gemmad.worker.zygote import STANDARD_FDS, import_everything, why_unfit
import_everything(True)
print(why_unfit(STANDARD_FDS))
before = set(sys.modules)
from gemmad.demo import CHECKPOINT
from gemmad.generation import EngineSettings
from gemmad.worker.loop import build_engine
engine = build_engine(EngineSettings(checkpoint=str(CHECKPOINT), kv_bytes=64 << 20), progress=lambda *_: None)
engine.warm_up()
print(*(name for name in sys.modules if name not in before and name.split(".")[0] in {"torch", "triton", "gemmad"}))
"""


def test_a_zygote_has_imported_what_its_workers_need() -> None:
    """With Triton, too, it stays fit to be forked; and what a worker imports until it has warmed up is there then."""
    result = subprocess.run(
        [sys.executable, "-c", IMPORTED], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines() == ["None", "gemmad.demo"]


def test_the_daemons_workers_come_back_as_forks(tmp_path: Path) -> None:
    """Killed, the worker of `gemmad serve` is back without its imports; killed, the daemon leaves none of all these."""
    with start_demo(tmp_path) as daemon:
        daemon.wait_ready()
        daemon.wait_until(lambda: len(daemon.running("gemmad.worker.zygote")) == 3)
        (worker,) = daemon.running("gemmad.worker")
        os.kill(worker, signal.SIGKILL)
        daemon.wait_until(lambda: len(daemon.events("worker loaded")) == 2)
        daemon.wait_until(lambda: daemon.get("/health")[0] == 200)
        first, second = daemon.events("worker loaded")
        assert second["imports"] < first["imports"] / 3
        with daemon.client() as client:
            question: Any = {"model": MODEL, "messages": [{"role": "user", "content": "Count to 3."}], "max_tokens": 8}
            assert client.chat.completions.create(**question).choices[0].message.content
        daemon.wait_until(lambda: len(daemon.running("gemmad.worker.zygote")) == 3)
        pidfds = [os.pidfd_open(pid) for pid in daemon.children()]
        daemon.signal(signal.SIGKILL)
        daemon.wait()
        assert len(pidfds) >= 4
        assert wait_for_exits(pidfds)


DRIVER = """
import asyncio, sys
from tests.fakes.listener import RecordingListener
from tests.process.forked import Begun, Stage, play

async def script(stage):
    await stage.warm()
    async with Begun(stage, {}) as begun:
        await begun.ready()
        await stage.until(lambda: stage.zygote.spares == 2)
        print("ready", flush=True)
        await asyncio.sleep(600)

play(Stage, script)
"""


def test_nothing_outlives_the_daemon() -> None:
    """When the daemon is killed, zygote, spares and forked workers are gone."""
    with subprocess.Popen([sys.executable, "-c", DRIVER], cwd=ROOT, stdout=subprocess.PIPE) as daemon:
        assert daemon.stdout is not None
        assert daemon.stdout.readline() == b"ready\n"
        pidfds = [os.pidfd_open(pid) for pid in _children_like("python", of=daemon.pid)]
        daemon.kill()
        assert len(pidfds) == 4
        assert wait_for_exits(pidfds)


def _children_like(text: str, *, of: int | None = None) -> set[int]:
    """Children whose command line has this in it."""
    parent = of or os.getpid()
    pids = [int(pid) for pid in Path(f"/proc/{parent}/task/{parent}/children").read_text().split()]
    return {pid for pid in pids if text.encode() in Path(f"/proc/{pid}/cmdline").read_bytes()}
