"""`gemmad evaluate` from end to end, on the CPU: what quantising costs the bundled model stays within bounds."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

DEADLINE_SECONDS = 110
CHATS = Path(__file__).parents[1] / "unit" / "evaluate" / "chats.txt"
ON_THE_CPU = ("--demo", "--device", "cpu", "--threads", "1", "--text", str(CHATS), "--context", "512")


def evaluate(*arguments: str) -> tuple[int, str, str]:
    """Exit status, and what was said."""
    command = [sys.executable, "-m", "gemmad", "evaluate", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=DEADLINE_SECONDS)
    return done.returncode, done.stdout, done.stderr


def by_combination(path: Path) -> dict[tuple[str, str], dict[str, Any]]:
    """The file's rows."""
    report = json.loads(path.read_text())
    assert report["ended"] == "complete"
    return {(row["weights"], row["kv"]): row for row in report["rows"]}


BOUNDS = {
    ("bf16", "int8"): (0.0004, 0.99),
    ("bf16", "fp8"): (0.006, 0.97),
    ("int8", "bf16"): (0.001, 0.985),
    ("int8", "int8"): (0.0015, 0.985),
    ("fp8", "bf16"): (0.008, 0.97),
    ("fp8", "fp8"): (0.015, 0.96),
    ("int4", "bf16"): (0.1, 0.92),
    ("int4", "fp8"): (0.11, 0.92),
}
"""Most mean KL divergence in nats, least top-1 agreement."""


def test_the_damage_is_bounded(tmp_path: Path) -> None:
    """Every combination of the bundled model stays near its unquantised self, the more bits the nearer."""
    path, page = tmp_path / "run.json", tmp_path / "run.md"
    flags = ("--scratch", str(tmp_path), "--json", str(path), "--markdown", str(page))
    code, out, err = evaluate(*ON_THE_CPU, *flags)
    assert code == 0, err
    rows = by_combination(path)
    assert len(rows) == 12
    reference = rows.pop(("bf16", "bf16"))
    assert reference["likeness"] is None
    for combination, (most, least) in BOUNDS.items():
        row = rows[combination]
        assert row["likeness"]["kl_mean"] <= most, combination
        assert row["likeness"]["top1_agreement"] >= least, combination
        assert 0.95 < row["likeness"]["perplexity_ratio"] < 1 + 4 * most**0.5, combination
    divergence = {weights: rows[weights, "bf16"]["likeness"]["kl_mean"] for weights in ("int8", "fp8", "int4")}
    assert divergence["int8"] < divergence["fp8"] < divergence["int4"]
    sizes = {weights: row["weight_bytes"] for (weights, _), row in rows.items()}
    assert sizes["int4"] < sizes["int8"] < reference["weight_bytes"] / 3  # which is float32 on a CPU
    assert rows["bf16", "int8"]["kv_bytes_per_token"] * 3 < reference["kv_bytes_per_token"]
    assert "| int4 | fp8 |" in page.read_text()
    assert "same top-1" in out
    assert sorted(tmp_path.iterdir()) == [path, page]  # the reference's logits are gone


def test_replies_alone_are_hardly_touched(tmp_path: Path) -> None:
    """What the bundled model says in its own turns it says in int4 with int8 KV too."""
    path = tmp_path / "run.json"
    flags = ("--replies", "--weights", "int4", "--kv", "int8", "--tokens", "4096", "--scratch", str(tmp_path))
    code, out, err = evaluate(*ON_THE_CPU, *flags, "--json", str(path))
    assert code == 0, err
    assert "tokens of replies scored" in out
    rows = by_combination(path)
    assert rows["bf16", "bf16"]["perplexity"] < 1.1
    assert rows["int4", "int8"]["likeness"]["top1_agreement"] > 0.98
    assert rows["int4", "int8"]["likeness"]["kl_mean"] < 0.01


def test_decoding_costs_what_prefill_does(tmp_path: Path) -> None:
    """Token by token the figures are nearly those of long pieces; only what was asked for is compared."""
    flags = ("--weights", "int8", "--kv", "int8", "--tokens", "1536", "--scratch", str(tmp_path))
    found = []
    for mode in ("prefill", "decode"):
        path = tmp_path / f"{mode}.json"
        code, _, err = evaluate(*ON_THE_CPU, *flags, "--mode", mode, "--sequences", "2", "--json", str(path))
        assert code == 0, err
        found.append(by_combination(path))
    assert set(found[0]) == {("bf16", "bf16"), ("int8", "int8")}
    for combination, row in found[0].items():
        assert found[1][combination]["perplexity"] == pytest.approx(row["perplexity"], rel=1e-3)
    ours, other = (rows["int8", "int8"]["likeness"]["kl_mean"] for rows in found)
    assert ours == pytest.approx(other, rel=0.1)


def test_random_weights_need_no_text(tmp_path: Path) -> None:
    """A shape's first layers are compared on random tokens, and no distribution is certain."""
    path = tmp_path / "run.json"
    shape = ("--random-weights", "270m", "--layers", "2", "--context", "16", "--tokens", "16")
    flags = ("--device", "cpu", "--threads", "1", "--weights", "int8", "--kv", "bf16", "--scratch", str(tmp_path))
    code, _, err = evaluate(*shape, *flags, "--json", str(path))
    assert code == 0, err
    near = by_combination(path)["int8", "bf16"]["likeness"]
    assert 1e-6 < near["kl_mean"] < 0.05


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        ((), 2, "one of --demo, --model DIR and --random-weights SHAPE"),
        (("--demo",), 2, "give a text to evaluate on: --text FILE"),
        (("--random-weights", "1b", "--text", str(CHATS)), 2, "random weights have no tokenizer"),
        ((*ON_THE_CPU, "--weights", "int8,int3"), 2, "there is no format 'int3'"),
        ((*ON_THE_CPU, "--tokens", "100"), 2, "less than a window's --context 512"),
        ((*ON_THE_CPU, "--scratch", "/no/such/folder"), 2, "no such folder"),
        ((*ON_THE_CPU, "--text", "/nowhere.txt"), 78, "/nowhere.txt cannot be read: No such file"),
        (("--model", "/nowhere", "--text", str(CHATS), "--device", "cpu"), 78, "config.json is missing"),
        (("--demo", "--text", str(CHATS), "--device", "cpu", "--context", "8193"), 78, "more than the context of 8192"),
    ],
    ids=["nothing", "text", "random", "format", "tokens", "scratch", "file", "model", "context"],
)
def test_mistakes_are_told_in_plain_words(arguments: tuple[str, ...], code: int, words: str) -> None:
    """A wrong command line is 2, what cannot be had 78; no traceback for either."""
    found, _, err = evaluate(*arguments)
    assert found == code
    assert words in err
    assert "Traceback" not in err
