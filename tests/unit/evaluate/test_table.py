from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import msgspec
from rich.console import Console

from gemmad.evaluate.record import Likeness, Recorder, Row
from gemmad.evaluate.table import markdown, print_table, sentence

FACTS: dict[str, Any] = {
    "command": ["gemmad", "evaluate", "--demo"],
    "device": {"name": "a CPU", "threads": "2 threads"},
    "libraries": {"python": "3.11", "torch": "2.11", "flash-attn": None},
    "model": {"name": "the bundled model", "dtype": "float32"},
    "mode": "prefill",
    "scored_tokens": 512,
    "windows": 2,
    "context": 512,
    "replies": True,
}
REFERENCE = Row(weights="bf16", kv="bf16", perplexity=2.5, perplexity_error=0.125, weight_bytes=4 << 20)
NEAR = Row(
    weights="int4",
    kv="fp8",
    perplexity=2.75,
    perplexity_error=0.125,
    likeness=Likeness(
        perplexity_ratio=1.1,
        ratio_error=0.01,
        kl_mean=0.0123,
        kl_error=0.0011,
        kl_median=0.004,
        kl_99=0.2,
        kl_max=0.5,
        top1_agreement=0.9531,
    ),
    weight_bytes=1 << 20,
    kv_bytes_per_token=864,
)
FAILED = Row(weights="fp8", kv="bf16", status="failed", reason="it went | wrong")


def test_a_report_is_told_in_full(tmp_path: Path) -> None:
    """File, page and terminal have every row, and say what was cut off."""
    recorder = Recorder(tmp_path / "run.json", FACTS)
    for row in (REFERENCE, NEAR, FAILED):
        recorder.add(row)
    told = json.loads((tmp_path / "run.json").read_text())
    assert [row["weights"] for row in told["rows"]] == ["bf16", "int4", "fp8"]
    assert told["rows"][1]["likeness"]["kl_99"] == 0.2
    assert told["ended"] == "running"
    recorder.end("interrupted")
    page = markdown(recorder.report)
    assert (
        "| int4 | fp8 | 2.7500 ± 0.1250 | 1.1000 ± 0.0100 | 0.0123 ± 1.10e-03 | 0.2 | 95.31% | 1.00 MiB | 864 B |"
        in page
    )
    assert "it went \\| wrong" in page
    assert "the bundled model (interrupted), prefill: 512 tokens of replies scored in 2 windows of 512" in page
    out = io.StringIO()
    print_table(recorder.report, Console(file=out, width=170))
    assert "95.31%" in out.getvalue()


def test_rows_are_told_as_they_come() -> None:
    """The reference, one that is compared, one that failed."""
    assert sentence(REFERENCE) == "bf16 weights, bf16 KV: perplexity 2.5000 ± 0.1250; the reference"
    random = msgspec.structs.replace(REFERENCE, perplexity=2.1473e9, perplexity_error=1.059e9)
    assert "perplexity 2.15e+09 ± 1.06e+09;" in sentence(random)
    assert sentence(NEAR).endswith("KL 0.0123 ± 1.10e-03, 99 % 0.2; top-1 95.31%")
    assert sentence(FAILED) == "fp8 weights, bf16 KV: failed: it went | wrong"
