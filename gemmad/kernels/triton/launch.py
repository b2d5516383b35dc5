"""How kernels follow one another on a device; nothing here computes.

**Overlap** is CUDA's programmatic dependent launch (CUDA C++ programming guide, section of that name; from Hopper on):
a kernel's programs may be placed on the device while the kernel before it is still draining. A kernel of ours then
calls for its weights, which nobody writes, and waits before it touches anything that an earlier kernel made. Two rules
make that safe for a whole chain, whoever wrote the other kernels:

- `begin()` comes first in every kernel: only when all programs of a kernel have begun may the next one be placed, so a
  waiting kernel never holds the place of one that it waits for;
- `wait_for_inputs()` is passed by every program before its first read of an activation and before its first write.
  It returns when the kernel before has ended, which had waited for the one before it, and so on.
"""
# mypy: disable-error-code="no-untyped-def,untyped-decorator"
# ruff: noqa: N803  (compile-time arguments are written in capitals)

from __future__ import annotations

import functools
from typing import Any

import torch
import triton
import triton.language as tl
from triton.language.extra.cuda import gdc_launch_dependents, gdc_wait

overlap_enabled = False
"""Overlap where the device can. A measurement may switch it; an engine never does after its graphs are captured."""


def options(device: torch.device, *, warps: int, stages: int = 1) -> dict[str, Any]:
    """Launch arguments for one kernel that takes OVERLAP."""
    overlap = overlap_enabled and _can_overlap(device)
    # Fused multiply-adds are asked for by name: Triton's default for them changes with 3.10.
    chosen: dict[str, Any] = {"num_warps": warps, "num_stages": stages, "enable_fp_fusion": True, "OVERLAP": overlap}
    return chosen | {"launch_pdl": True} if overlap else chosen


@functools.cache
def _can_overlap(device: torch.device) -> bool:
    return device.type == "cuda" and torch.cuda.get_device_capability(device) >= (9, 0)


@triton.jit
def begin(OVERLAP: tl.constexpr):
    """Let the next kernel be placed as soon as all programs of this one have come here."""
    if OVERLAP:
        gdc_launch_dependents()


@triton.jit
def wait_for_inputs(OVERLAP: tl.constexpr):
    """From here on everything that earlier kernels wrote can be read, and what they read can be overwritten."""
    if OVERLAP:
        gdc_wait()
