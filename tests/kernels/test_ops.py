"""Which kernels a device gets."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from gemmad.kernels import ops


def test_a_cpu_gets_plain_torch() -> None:
    """A CPU's set is the reference itself."""
    assert ops.ops_for(torch.device("cpu")) is ops.REFERENCE


def test_a_cpu_needs_no_triton() -> None:
    """Choosing a CPU's kernels imports no Triton, which need not be installed there."""
    script = """
import sys, torch
from gemmad.kernels.ops import ops_for
ops_for(torch.device("cpu"))
print("triton" in sys.modules)
"""
    told = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "False"


def test_a_gpu_gets_triton_s_kernels() -> None:
    """What has a kernel is taken from the Triton set, without an environment variable or a device."""
    pytest.importorskip("triton", reason="triton is not installed")
    chosen = ops.triton_ops()
    for name in (
        "rms_norm",
        "add_norm",
        "linear",
        "linear_add_norm",
        "gate_up_gelu",
        "rope_tables",
        "rotate_and_store",
        "sample",
        "steer",
        "count_said",
        "logprobs",
    ):
        assert getattr(chosen, name).__module__.startswith("gemmad.kernels.triton.")
