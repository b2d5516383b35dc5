"""Layers of 12B's shape, quantised, say nearly what they say in bfloat16, by the GPU's own kernels."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]

LAYERS = 6
"""The fewest among which are both kinds."""
BOUNDS = {
    ("bf16", "int8"): 0.01,
    ("bf16", "fp8"): 0.08,
    ("int8", "bf16"): 0.05,
    ("fp8", "bf16"): 0.4,
    ("int4", "bf16"): 2.0,
    ("int4", "fp8"): 2.0,
}
"""Most mean KL divergence in nats. Six layers of 270m's shape, in float32: 0.002, 0.02, 0.01, 0.09, 1.2 and 1.2."""


@pytest.mark.timeout(600)
@pytest.mark.parametrize("mode", ["prefill", "decode"])
def test_layers_of_12b_stay_near_themselves(tmp_path: Path, mode: str) -> None:
    """Mean KL divergence to bfloat16 is bounded for each format, and more bits are nearer."""
    path = tmp_path / "run.json"
    flags = ("--random-weights", "12b", "--layers", str(LAYERS), "--device", "cuda", "--mode", mode)
    sizes = ("--context", "1536", "--tokens", "3072", "--step-tokens", "512", "--sequences", "2")
    files = ("--scratch", str(tmp_path), "--json", str(path))
    command = [sys.executable, "-m", "gemmad", "evaluate", *flags, *sizes, *files]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=580)
    assert done.returncode == 0, done.stderr
    report = json.loads(path.read_text())
    rows = {(row["weights"], row["kv"]): row["likeness"] for row in report["rows"]}
    for combination, most in BOUNDS.items():
        assert rows[combination]["kl_mean"] <= most, f"{combination}: {done.stdout}"
    assert rows["int8", "bf16"]["kl_mean"] < rows["fp8", "bf16"]["kl_mean"] < rows["int4", "bf16"]["kl_mean"]
