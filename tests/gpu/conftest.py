"""What the first use of a GPU opens stays open for the life of the process."""

from __future__ import annotations

import pytest
import torch


@pytest.fixture(scope="session", autouse=True)
def _awake() -> None:
    """A context, and what its first kernel and its first graph need, before any test looks for what it left behind."""
    if torch.cuda.is_available():
        ones = torch.ones(64, 64, device="cuda")
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            ones @ ones
        graph.replay()
        torch.cuda.synchronize()
