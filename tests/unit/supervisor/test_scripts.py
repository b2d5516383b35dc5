"""Workers, operators, GPUs and time, in whatever order: the pool and its actors under every race that chance thinks of.

`SCRIPTS=10000 make test` tries more of them; `make soak` always does.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Iterator

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gemmad.config.schema import RecycleSection, WorkersSection
from gemmad.generation import EngineLoad, EngineSettings, MemoryRow
from gemmad.protocol.messages import Dying, Heartbeat, Output, Ready, Stepped
from gemmad.supervisor.examine import Condition
from gemmad.supervisor.gpus import Gpus
from gemmad.supervisor.lifecycle import AT_REST, State
from gemmad.supervisor.seating import Seating
from tests.fakes.child import CAPACITY, ScriptedChild
from tests.fakes.clock import settle
from tests.unit.supervisor.stage import BEAT, GIB, HELLO, Stage, gpu, play

MANY = 10_000
STOPPED = Condition("it is stopped (SIGSTOP)", from_outside=True)
PLAN = (MemoryRow("weights", 20 * GIB),)

Act = Callable[[Stage, ScriptedChild, str], object]


def _toggle_gpu(stage: Stage, index: int) -> None:
    found = {each.index: each for each in stage.sight.found}
    if found.pop(index, None) is None:
        found[index] = gpu(index)
    stage.sight = Gpus(tuple(found[index] for index in sorted(found)), may_come=True)


def _change_gpus(stage: Stage, **fields: object) -> None:
    stage.sight = Gpus(tuple(msgspec.structs.replace(each, **fields) for each in stage.sight.found), may_come=True)


def _toggle_driver(stage: Stage) -> None:
    if stage.sees.is_set():
        stage.sees.clear()
    else:
        stage.sees.set()


OF_WORKERS: dict[str, Act] = {
    "greet": lambda stage, child, name: child.say(HELLO),
    "load": lambda stage, child, name: child.load(),
    "load by plan": lambda stage, child, name: child.say(
        HELLO, Ready(capacity=CAPACITY, pid=1, seconds=1.0, memory=PLAN)
    ),
    "step": lambda stage, child, name: child.say(Stepped(1, (Output(1, (1,)),))),
    "beat": lambda stage, child, name: child.say(BEAT),
    "grow": lambda stage, child, name: child.say(BEAT, Heartbeat(EngineLoad(device_bytes=9 * GIB, host_rss_bytes=GIB))),
    "garbage": lambda stage, child, name: child.say_bytes(b"\xff" * 8),
    "last words": lambda stage, child, name: child.say(Dying(1, "oh")),
    "hang up": lambda stage, child, name: child.hang_up(),
    "exit 0": lambda stage, child, name: child.exit(0),
    "exit 1": lambda stage, child, name: child.exit(1, hang_up_first=False),
    "exit 3": lambda stage, child, name: child.exit(3),
    "exit 4": lambda stage, child, name: child.exit(4),
    "killed": lambda stage, child, name: child.exit(-9, hang_up_first=False),
    "stopped": lambda stage, child, name: setattr(child, "condition", STOPPED),
    "hardened": lambda stage, child, name: setattr(child, "killable", not child.killable),
    "missing": lambda stage, child, name: setattr(stage.nursery, "missing", not stage.nursery.missing),
}
OF_OPERATORS: dict[str, Act] = {
    "drain": lambda stage, child, name: stage.pool.drain(name, grace_seconds=7),
    "drain now": lambda stage, child, name: stage.pool.drain(grace_seconds=0),
    "resume": lambda stage, child, name: stage.pool.resume(name),
    "restart": lambda stage, child, name: stage.pool.restart(name, grace_seconds=7),
    "reconcile": lambda stage, child, name: stage.pool.reconcile(),
    "recycle": lambda stage, child, name: stage.pool.recycle(name),
    "recycle all": lambda stage, child, name: stage.pool.recycle(),
    "recycle often": lambda stage, child, name: setattr(stage, "recycle", RecycleSection(every=20, grace=5)),
    "recycle growth": lambda stage, child, name: setattr(stage, "recycle", RecycleSection(vram_drift=1, grace=0)),
    "new settings": lambda stage, child, name: setattr(stage, "settings", EngineSettings(checkpoint=name)),
}
OF_THE_HOST: dict[str, Act] = {
    "host full": lambda stage, child, name: setattr(stage, "available", 0),
    "host free": lambda stage, child, name: setattr(stage, "available", None),
    "gpu 0": lambda stage, child, name: _toggle_gpu(stage, 0),
    "gpu 1": lambda stage, child, name: _toggle_gpu(stage, 1),
    "gpus full": lambda stage, child, name: _change_gpus(stage, used_bytes=75 * GIB),
    "gpus half": lambda stage, child, name: _change_gpus(stage, used_bytes=30 * GIB),
    "gpus free": lambda stage, child, name: _change_gpus(stage, used_bytes=0),
    "other gpus": lambda stage, child, name: _change_gpus(stage, uuid=f"GPU-{stage.looks}"),
    "driver": lambda stage, child, name: _toggle_driver(stage),
}
ACTS = OF_WORKERS | OF_OPERATORS | OF_THE_HOST
OFTEN = 6 * ["load"] + 3 * ["recycle"] + 3 * ["exit 0"] + ["exit 1", "resume", "recycle all", "gpus free"]
"""Without these few scripts would come to anything."""

scripts = st.lists(
    st.tuples(
        st.sampled_from(sorted(ACTS) + OFTEN),
        st.integers(0, 7),
        st.sampled_from([None, None, 0.0, 0.4, 1.0, 9.0, 40.0, 700.0]),
    ),
    max_size=50,
)


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """What thousands of workers went through would be a log of many megabytes."""
    logger = logging.getLogger("gemmad.supervisor")
    before = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    yield
    logger.setLevel(before)


def check(stage: Stage) -> None:
    """What holds at every moment."""
    for status in stage.pool.status():
        assert (status.pid is None) == (status.state in AT_REST), status
        assert status.successor is None or status.successor.life > status.life
    places = list(stage.pool._places.values())
    assert sum(place.heir is not None for place in places) <= 1
    assert all(len(place.workers()) <= 3 for place in places)
    seats = [place.seat.name for place in places]
    assert len(seats) == len(set(seats)) > 0
    assert len({handle.name for handle in stage.listener.workers}) >= sum(place.ready() for place in places)


def follow(script: list[tuple[str, int, float | None]], *, on_gpus: bool) -> None:
    """Play a script to its end, and stop the pool."""

    async def act(stage: Stage) -> None:
        for name, number, seconds in script:
            if stage.nursery.children:
                child = stage.nursery.children[-1 - number % min(4, len(stage.nursery.children))]
                statuses = stage.pool.status()
                ACTS[name](stage, child, statuses[number % len(statuses)].name)
            if seconds is not None:
                await asyncio.sleep(seconds)
                await settle()
                check(stage)
        await settle()
        check(stage)

    if on_gpus:
        seating = Seating("cuda", WorkersSection(), environ={}, cores=8)
        gpus = Gpus((gpu(0), gpu(1)), may_come=True)
        stage = play(act, seats=seating.settle(gpus), gpus=gpus, seats_after=seating.settle)
    else:
        stage = play(act, seats=2)
    assert {status.state for status in stage.pool.status()} <= {State.STOPPED, State.KILLING}


@settings(max_examples=int(os.environ.get("SCRIPTS", "150")))
@given(scripts, st.booleans())
def test_no_script_leads_to_an_illegal_move(script: list[tuple[str, int, float | None]], on_gpus: bool) -> None:
    """Whatever workers, operators, GPUs and time do, in whatever order, every move is legal, the notes agree with each
    other, and the pool can be stopped."""
    follow(script, on_gpus=on_gpus)


@pytest.mark.soak
@pytest.mark.timeout(3600)
@settings(max_examples=MANY)
@given(scripts, st.booleans())
def test_ten_thousand_scripts(script: list[tuple[str, int, float | None]], on_gpus: bool) -> None:
    """The same, ten thousand times."""
    follow(script, on_gpus=on_gpus)
