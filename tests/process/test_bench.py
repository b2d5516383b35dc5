"""`gemmad bench` from end to end, on the CPU."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from gemmad.bench.wanted import SCENARIOS, Wanted

DEADLINE_SECONDS = 100
ON_THE_CPU = ("--demo", "--device", "cpu", "--quick", "--threads", "1")


def start(*arguments: str) -> subprocess.Popen[str]:
    """The command."""
    command = [sys.executable, "-m", "gemmad", "bench", *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def bench(*arguments: str) -> tuple[int, str, str]:
    """Exit status, and what was said."""
    with start(*arguments) as process:
        out, err = process.communicate(timeout=DEADLINE_SECONDS)
        return process.returncode, out, err


def told(path: Path) -> dict[str, Any]:
    """The file."""
    report: dict[str, Any] = json.loads(path.read_text())
    return report


def test_the_bundled_model_is_measured_in_seconds(tmp_path: Path) -> None:
    """Every scenario leaves rows in file, page and table; none fails; what cannot be had on a CPU says so."""
    path, page = tmp_path / "run.json", tmp_path / "run.md"
    code, out, err = bench(*ON_THE_CPU, "--repeat", "2", "--json", str(path), "--markdown", str(page))
    assert code == 0, err
    report = told(path)
    assert (report["schema"], report["ended"]) == (1, "complete")
    rows = {row["label"]: row for row in report["rows"]}
    assert {row["scenario"] for row in rows.values()} == set(Wanted(model="m", quick=True).scenarios)
    assert {label for label, row in rows.items() if row["status"] != "ok"} == {"idle share, batch 1"}
    decode = rows["decode, batch 4"]
    assert len(decode["samples"]) == decode["spread"]["count"] == 2
    at = decode["floor"] * decode["percent_of_floor"] / 100
    assert 0.99 * min(decode["samples"]) <= at <= 1.01 * max(decode["samples"])
    facts = report["facts"]
    assert facts["command"][:3] == ["gemmad", "bench", "--demo"]
    assert facts["libraries"]["torch"]
    assert facts["device"]["name"]
    for label in rows:
        assert label in page.read_text()
    assert "decode, batch 4" in out


def test_named_scenarios_and_the_comparison(tmp_path: Path) -> None:
    """transformers runs on the same weights; the logits agree; a real worker is started cold and warm."""
    path = tmp_path / "run.json"
    flags = ("--repeat", "1", "--only", "start", "--compare", "transformers", "--layers", "3")
    code, _, err = bench(*ON_THE_CPU, *flags, "--json", str(path))
    assert code == 0, err
    rows = {row["label"]: row for row in told(path)["rows"]}
    assert rows["gemmad over transformers: decode, batch 4"]["samples"][0] > 0
    assert rows["gemmad over transformers: prefill, 256 tokens"]["unit"] == "×"
    assert rows["logits: gemmad's error over transformers'"]["details"]["largest"] <= 1.5
    assert rows["start to ready, warm"]["details"]["weights_GB_per_s"] > 0
    assert told(path)["facts"]["model"]["name"] == "the bundled model, first 3 layers"


def test_a_signal_leaves_what_there_is(tmp_path: Path) -> None:
    """An interrupted run shows and keeps its figures, and exits as a shell expects."""
    path = tmp_path / "run.json"
    with start(*ON_THE_CPU, "--only", "decode,mixed", "--traffic-seconds", "90", "--json", str(path)) as process:
        until = time.monotonic() + DEADLINE_SECONDS
        while not (path.exists() and len(told(path)["rows"]) == 2):
            assert time.monotonic() < until, "no figure came"
            assert process.poll() is None
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=DEADLINE_SECONDS)
    assert process.returncode == 128 + signal.SIGINT
    assert told(path)["ended"] == "interrupted"
    assert "decode, batch 4" in out


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        ((), 2, "one of --demo, --model DIR and --random-weights SHAPE"),
        (("--demo", "--model", "/tmp"), 2, "one of --demo, --model DIR"),
        (("--demo", "--only", "decode,nonsense"), 2, "no scenario 'nonsense'"),
        (("--demo", "--json", "/no/such/folder/run.json"), 2, "no such folder"),
        (("--model", "/nowhere", "--device", "cpu"), 78, "config.json is missing"),
    ],
    ids=["nothing", "two", "name", "file", "model"],
)
def test_mistakes_are_told_in_plain_words(arguments: tuple[str, ...], code: int, words: str) -> None:
    """A wrong command line is 2, a wrong model 78; no traceback for either."""
    found, _, err = bench(*arguments)
    assert found == code
    assert words in err
    assert "Traceback" not in err


def test_help_lists_the_scenarios() -> None:
    """Names that `--only` takes stand in the help."""
    code, out, _ = bench("--help")
    assert code == 0
    plain = " ".join(out.replace("│", " ").split())
    assert all(name in plain for name in SCENARIOS)
