from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest

from gemmad.bench.floor import Roof, Work
from gemmad.bench.record import Recorder, Report, Row, rate_row, time_row, value_row

ROOF = Roof(bytes_per_second=1e12, flop_per_second=100e12)


def test_a_rate_is_set_against_its_floor() -> None:
    """Eight tokens in 16 ms, where reading 8 GB takes 8: half of the floor, at half of the bandwidth."""
    row = rate_row("decode", [0.016, 0.016, 0.032], tokens=8, roof=ROOF, work=Work(nbytes=8e9, flop=1.0))
    assert row.spread is not None
    assert (row.spread.median, row.spread.low, row.spread.high) == (500, 250, 500)
    assert row.floor == pytest.approx(1000)
    assert row.percent_of_floor == pytest.approx(50)
    assert row.achieved == pytest.approx(0.5)
    assert row.achieved_unit == "TB/s"


def test_a_time_is_set_against_its_floor() -> None:
    """20 ms for what could be multiplied in 10: half of the floor again, in TFLOP/s."""
    row = time_row("first token", [0.020], roof=ROOF, work=Work(nbytes=1.0, flop=1e12))
    assert row.unit == "ms"
    assert row.floor == pytest.approx(10)
    assert row.percent_of_floor == pytest.approx(50)
    assert row.achieved == pytest.approx(50)
    assert row.achieved_unit == "TFLOP/s"


def test_without_work_there_is_no_floor() -> None:
    """A figure that has no physical bound is told without one."""
    assert time_row("gap", [0.001, 0.002]).floor is None
    assert value_row("segments", "", [0.0], retries=1).details == {"retries": 1}


def test_each_row_is_on_the_disk_when_the_next_begins(tmp_path: Path) -> None:
    """The file is whole after each row, tells that the run goes on, and in the end how it ended."""
    path = tmp_path / "run.json"
    recorder = Recorder(path, {"command": ["gemmad", "bench"]})
    recorder.learn(model={"name": "demo"})
    for number in (1, 2):
        recorder.add(value_row(f"row {number}", "ms", [1.0, 2.0]), seconds=number)
        read = msgspec.json.decode(path.read_bytes(), type=Report)
        assert [row.label for row in read.rows] == [f"row {n + 1}" for n in range(number)]
        assert (read.ended, read.seconds) == ("running", number)
    recorder.end("interrupted", seconds=3)
    told = json.loads(path.read_text())
    assert (told["schema"], told["ended"], told["facts"]["model"]["name"]) == (1, "interrupted", "demo")
    assert told["rows"][0]["samples"] == [1.0, 2.0]
    assert [path.name for path in tmp_path.iterdir()] == ["run.json"]


def test_a_run_without_a_file_keeps_its_rows() -> None:
    """Nothing is written where nothing was asked for."""
    recorder = Recorder(None, {})
    recorder.add(Row(label="one", status="skipped", reason="no time was left"), seconds=1)
    assert recorder.report.rows[0].reason == "no time was left"
