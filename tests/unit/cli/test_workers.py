"""drain, resume and recycle: whom they ask, when they are done, and what they leave with."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from gemmad.api.overview import WorkerOverview
from gemmad.cli import drain, recycle, resume
from tests.unit.cli.conftest import Command
from tests.unit.cli.operated import PlayedSocket, overview, played, worker

VERBS = ("drain", "resume", "recycle")


@pytest.fixture
def control(config_dir: Path) -> Iterator[PlayedSocket]:
    """The daemon's end."""
    with played(config_dir / "run") as socket:
        yield socket


@pytest.mark.parametrize("verb", VERBS)
def test_one_or_all(gemmad: Command, control: PlayedSocket, verb: str) -> None:
    """One worker is asked by its name, or all; each that was asked is told of."""
    said = gemmad(verb, "gpu0:1")
    assert (said.exit_code, said.stdout.split()[0]) == (0, "gpu0")
    control.overviews = [overview(worker("gpu0"), worker("gpu1"))]
    said = gemmad(verb, "--all")
    assert [line.split()[0] for line in said.stdout.splitlines()] == ["gpu0", "gpu1"]
    assert control.asked == [f"POST /workers/gpu0%3A1/{verb}", f"POST /workers/all/{verb}"]


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("arguments", [(), ("gpu0", "--all")])
def test_neither_or_both(gemmad: Command, control: PlayedSocket, verb: str, arguments: tuple[str, ...]) -> None:
    """Nobody is drained by a slip: it has to be a name or --all."""
    said = gemmad(verb, *arguments)
    assert said.exit_code == 2
    assert f"gemmad {verb} --all" in said.stderr
    assert control.asked == []


@pytest.mark.parametrize(("status", "exit_code"), [(403, 4), (404, 2), (409, 1), (503, 1)])
def test_refused(gemmad: Command, control: PlayedSocket, status: int, exit_code: int) -> None:
    """The daemon's own reason is printed, and its kind is the exit status."""
    control.refuse(status, "There are gpu0 and gpu1.")
    said = gemmad("drain", "x")
    assert (said.exit_code, said.stdout, said.stderr) == (exit_code, "", "gemmad: There are gpu0 and gpu1.\n")


def test_nobody_is_there(gemmad: Command) -> None:
    """Without a daemon: 3."""
    assert gemmad("recycle", "--all").exit_code == 3


def test_waiting_for_all(gemmad: Command, control: PlayedSocket) -> None:
    """--wait tells of each worker when it is done with it, and returns with the last."""
    before = [worker("gpu0", recycling=True), worker("gpu1", recycling=True)]
    first_done = [worker("gpu0", life=2), worker("gpu1", recycling=True)]
    all_done = [worker("gpu0", life=2), worker("gpu1", life=3)]
    control.overviews = [overview(*workers) for workers in (before, before, first_done, all_done)]
    said = gemmad("recycle", "--all", "--wait")
    assert (said.exit_code, said.stdout) == (0, "gpu0 is ready, life 2\ngpu1 is ready, life 3\n")
    assert control.asked == ["POST /workers/all/recycle", *["GET /status"] * 3]


def test_waiting_in_vain(gemmad: Command, control: PlayedSocket) -> None:
    """Who does not come in time, fails, or is not there any more is named, and the command leaves with 1."""
    control.overviews = [overview(worker("gpu0", state="draining", drained=True))]
    said = gemmad("drain", "gpu0", "--wait", "--timeout", "0.3")
    assert (said.exit_code, said.stderr) == (1, "gemmad: not done after 0.3 seconds: gpu0\n")
    control.overviews = [overview(worker("gpu0")), overview(worker("gpu0", state="failed", last_error="no weights"))]
    said = gemmad("resume", "gpu0", "--wait")
    assert (said.exit_code, said.stderr) == (1, "gpu0 failed: no weights\n")
    control.overviews = [overview(worker("gpu0")), overview()]
    said = gemmad("resume", "gpu0", "--wait")
    assert (said.exit_code, said.stderr) == (1, "gpu0 is not a worker any more\n")


def done(before: WorkerOverview, now: WorkerOverview, verb: str) -> bool | None:
    judge = {"drain": drain.judge, "resume": resume.judge, "recycle": recycle.judge}[verb]
    outcome = judge(before, now)
    return None if outcome is None else outcome.done


def test_when_a_worker_is_drained() -> None:
    """Once it is stopped and no process is left; not if somebody resumes it."""
    before = worker()
    assert done(before, worker(state="draining", drained=True), "drain") is None
    assert done(before, worker(state="stopped", drained=True), "drain") is None
    assert done(before, worker(state="stopped", drained=True, pid=None), "drain") is True
    assert done(before, worker(state="ready"), "drain") is False


def test_when_a_worker_is_resumed() -> None:
    """Once it is ready; a crash is tried again, a failure is not waited for."""
    before = worker(state="stopped", drained=True, pid=None)
    for state in ("stopped", "waiting", "starting", "backoff"):
        assert done(before, worker(state=state), "resume") is None
    assert done(before, worker(state="ready"), "resume") is True
    assert done(before, worker(state="failed"), "resume") is False
    assert done(before, worker(state="stopped", drained=True), "resume") is False


def test_when_a_worker_is_recycled() -> None:
    """Once a later life serves and the earlier one is gone; a renewal that failed leaves the earlier life or none."""
    before = worker(life=4)
    assert done(before, worker(life=4, recycling=True), "recycle") is None
    assert done(before, worker(life=5, recycling=True), "recycle") is None
    assert done(before, worker(life=5), "recycle") is True
    assert done(before, worker(life=4, last_recycle="failed: no room"), "recycle") is False
    assert done(before, worker(life=5, state="backoff"), "recycle") is False
    assert done(before, worker(life=5, state="starting"), "recycle") is None
    assert done(before, worker(life=4, drained=True), "recycle") is False


def test_when_a_crashed_worker_is_recycled() -> None:
    """One that waited for its next life is waited for until that one serves or falls."""
    before = worker(life=4, state="backoff")
    assert done(before, worker(life=4, state="backoff"), "recycle") is None
    assert done(before, worker(life=5, state="ready"), "recycle") is True
    assert done(before, worker(life=5, state="failed"), "recycle") is False
