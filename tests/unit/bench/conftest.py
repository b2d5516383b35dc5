"""An engine over the bundled model, small enough to refuse things."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from gemmad.bench.floor import Cost, Roof
from gemmad.bench.rig import Rig
from gemmad.bench.sizes import sizes_for
from gemmad.bench.stage import Budget, Stage
from gemmad.bench.subject import Subject
from gemmad.bench.wanted import Wanted
from gemmad.demo import CHECKPOINT
from gemmad.engine.build import build_engine


@pytest.fixture(scope="session")
def subject(tmp_path_factory: pytest.TempPathFactory) -> Subject:
    """The bundled model as it is measured on a CPU."""
    wanted = Wanted(model=str(CHECKPOINT), sequences=6, context=640)
    sizes = sizes_for("cpu", quick=True)
    return Subject(wanted, tmp_path_factory.mktemp("empty"), device=torch.device("cpu"), sizes=sizes)


@pytest.fixture(scope="session", params=[False, True], ids=["", "overlap"])
def warm_rig(subject: Subject, request: pytest.FixtureRequest) -> Rig:
    """One engine for the whole session, and one that launches steps ahead as on a GPU."""
    threads = torch.get_num_threads()
    engine = build_engine(subject.settings, progress=lambda *_: None, overlap=request.param)
    torch.set_num_threads(threads)
    engine.warm_up()
    engine.warm_grammars()  # its threads are there before a test begins that would be blamed for them
    return Rig(engine, subject.config)


@pytest.fixture
def rig(warm_rig: Rig) -> Iterator[Rig]:
    """It is left without a request and without a page."""
    yield warm_rig
    warm_rig.clear()
    assert warm_rig.engine.idle
    warm_rig.engine.check()


@pytest.fixture
def stage(rig: Rig) -> Stage:
    """The smallest sizes, twice."""
    roof = Roof(bytes_per_second=1e9, flop_per_second=1e9)
    cost = Cost(rig.config.text, itemsize=4)
    return Stage(rig, sizes_for("cpu", quick=True), cost, roof, Budget(None), repeat=2)


@pytest.fixture
def empty(tmp_path: Path) -> Path:
    """A folder for a made-up checkpoint."""
    folder = tmp_path / "empty"
    folder.mkdir()
    return folder
