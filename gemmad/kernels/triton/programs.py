"""Which programs of a prefill kernel work on which sequence, found once in a step and the same for all its layers.

A grid is as large as a batch of its size may need: T // block_q + S. A batch needs fewer, most of all where many of its
sequences bring a single token or none; the programs that are over find that out with one read and leave.
"""

from __future__ import annotations

import torch

from gemmad.kernels.batch import AttentionBatch


def first_programs(batch: AttentionBatch, block_q: int, *, least: int = 1) -> torch.Tensor:
    """[S + 1] int32: sequence s owns programs `first[s] : first[s + 1]` of `block_q` queries each; one that brings
    fewer than `least` tokens owns none."""
    counts = batch.query_starts[1:] - batch.query_starts[:-1]
    programs = torch.where(counts >= least, (counts + (block_q - 1)) // block_q, 0)
    first = torch.zeros_like(batch.query_starts)
    torch.cumsum(programs, 0, dtype=torch.int32, out=first[1:])
    return first
