from __future__ import annotations

import gc
import weakref
from pathlib import Path

import pytest
import torch

from gemmad.bench.facts import device_facts, library_versions
from gemmad.bench.hardware import measure_roof
from gemmad.bench.record import Row
from gemmad.bench.run import Run
from gemmad.bench.sizes import sizes_for
from gemmad.bench.stage import Budget
from gemmad.bench.subject import Subject
from gemmad.bench.wanted import Wanted
from gemmad.demo import CHECKPOINT
from gemmad.engine.engine import Engine
from gemmad.errors import CheckpointError


class Quiet:
    """Remembers what it was told."""

    def __init__(self) -> None:
        self.words: list[str] = []
        self.rows: list[Row] = []

    def doing(self, words: str) -> None:
        self.words.append(words)

    def done(self, row: Row) -> None:
        self.rows.append(row)


def run(wanted: Wanted, folder: Path, *, seconds: float | None = None) -> tuple[Run, Quiet]:
    """Measure, and keep this process's number of threads."""
    threads, quiet = torch.get_num_threads(), Quiet()
    made = Run(wanted, folder, telling=quiet, budget=Budget(seconds))
    try:
        made.measure()
    finally:
        torch.set_num_threads(threads)
    return made, quiet


def test_what_does_not_fit_costs_the_rest_nothing(empty: Path) -> None:
    """With a short context long prompts are skipped, the others are measured, and the engine is gone in the end."""
    gc.collect()
    engines = sum(type(thing) is Engine for thing in gc.get_objects())
    wanted = Wanted(
        model=str(CHECKPOINT), device="cpu", context=100, quick=True, repeat=1, only=("decode", "prefill", "memory")
    )
    made, quiet = run(wanted, empty)
    report = made.recorder.report
    states = {row.label: row.status for row in report.rows}
    assert states["prefill, 64 tokens"] == "ok"
    assert states["prefill, 256 tokens"] == "skipped"
    assert states["longest context"] == "ok"
    assert report.ended == "complete"
    assert quiet.rows == list(report.rows)
    assert any(words.startswith("building the engine") for words in quiet.words)
    assert report.facts["capacity"]["max_context"] == 100
    assert {"weights", "memory", "warm-up"} <= report.facts["build_seconds"].keys()
    assert sum(type(thing) is Engine for thing in gc.get_objects()) == engines


def test_an_engine_that_cannot_be_built_is_a_row(empty: Path, tmp_path: Path) -> None:
    """Weights that are missing are told as the reason, once; what needs no engine is still tried."""
    (empty / "config.json").write_bytes((CHECKPOINT / "config.json").read_bytes())
    wanted = Wanted(model=str(empty), device="cpu", context=1 << 20, quick=True, only=("decode", "prefill", "start"))
    made, _ = run(wanted, tmp_path)
    built, started = made.recorder.report.rows
    assert (built.label, built.status) == ("building the engine", "failed")
    assert "CheckpointError" in built.reason
    assert started.status == "failed"
    assert "StartFailed" in started.reason
    assert "is missing" in started.reason
    assert made.recorder.report.facts["settings"]["max_context"] == 8192  # the model's own


def test_time_that_is_over_is_told(empty: Path) -> None:
    """Without time nothing is begun, and every case says so."""
    wanted = Wanted(model=str(CHECKPOINT), device="cpu", quick=True, only=("decode", "agreement"))
    made, _ = run(wanted, empty, seconds=0.0)
    assert {row.reason for row in made.recorder.report.rows} == {"no time was left"}
    assert made.recorder.report.ended == "out of time"


def test_a_folder_that_is_no_model_is_refused(empty: Path) -> None:
    """With the words of whoever reads checkpoints, also where it would only be cut."""
    for layers in (None, 2):
        with pytest.raises(CheckpointError, match=r"config\.json is missing"):
            Run(Wanted(model=str(empty), layers=layers), empty, telling=Quiet(), budget=Budget(None))


def test_random_weights_are_kept_until_let_go(empty: Path) -> None:
    """A shape's first layers stand for a checkpoint: the engine takes its weights, and a comparison has the same."""
    wanted = Wanted(random_weights="270m", layers=1, device="cpu")
    subject = Subject(wanted, empty, device=torch.device("cpu"), sizes=sizes_for("cpu", quick=True))
    assert subject.name == "random weights, 270m shape, first 1 layers"
    weights = subject.weights()
    assert subject.weights() is weights
    gone = weakref.ref(weights)
    del weights
    subject.let_go()
    assert gone() is None


def test_this_machine_is_described() -> None:
    """Rates are positive, the CPU has a name, and the versions of what matters are known."""
    roof = measure_roof(torch.device("cpu"))
    assert roof.bytes_per_second > 1e8
    assert roof.flop_per_second > 1e8
    assert device_facts(torch.device("cpu"))["name"]
    assert library_versions()["torch"] == torch.__version__
