"""The seam between the network and its kernels: one set of functions for each kind of device.

Every set computes what `gemmad.kernels.reference` defines; tests hold them equal.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from gemmad.kernels.backends import Backend
from gemmad.kernels.batch import AttentionBatch, Logprobs, SamplingBatch, SteeringBatch
from gemmad.kernels.matrices import Matrix
from gemmad.kernels.reference import attention, coded, network, sampling, steering


@dataclass(frozen=True)
class Ops:
    """The operations that a step is made of; contracts are the reference functions' docstrings."""

    rms_norm: Callable[[torch.Tensor, torch.Tensor, float], torch.Tensor]
    add_norm: Callable[
        [torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, float], tuple[torch.Tensor, torch.Tensor]
    ]
    embed: Callable[[Matrix, torch.Tensor, torch.Tensor], torch.Tensor]
    linear: Callable[[torch.Tensor, Matrix], torch.Tensor]
    linear_add_norm: Callable[..., tuple[torch.Tensor, torch.Tensor]]
    gate_up_gelu: Callable[[torch.Tensor, Matrix], torch.Tensor]
    rope_tables: Callable[[torch.Tensor, torch.Tensor, float], torch.Tensor]
    rotate_and_store: Callable[..., torch.Tensor]
    prepare_attention: Callable[[AttentionBatch], Any]
    """What all layers over one pool share; its result goes to `attention`, which alone knows what it is."""
    attention: Callable[..., torch.Tensor]
    sample: Callable[[torch.Tensor, SamplingBatch], torch.Tensor]
    steer: Callable[[torch.Tensor, SteeringBatch], torch.Tensor]
    count_said: Callable[[torch.Tensor, SteeringBatch], None]
    logprobs: Callable[..., Logprobs]


REFERENCE = Ops(
    rms_norm=network.rms_norm,
    add_norm=network.add_norm,
    embed=coded.embed,
    linear=coded.linear,
    linear_add_norm=coded.linear_add_norm,
    gate_up_gelu=coded.gate_up_gelu,
    rope_tables=network.rope_tables,
    rotate_and_store=network.rotate_and_store,
    prepare_attention=attention.group_queries,
    attention=attention.paged_attention,
    sample=sampling.sample,
    steer=steering.steer,
    count_said=steering.count_said,
    logprobs=sampling.logprobs,
)


def triton_ops(backend: Backend | None = None, scratch: torch.Tensor | None = None) -> Ops:
    """The Triton set, for CUDA devices, and for tests under Triton's interpreter. Only this imports Triton.

    `backend` computes the attention of steps whose `AttentionBatch.gather_tokens` allows it, with keys and values
    gathered into `scratch`, [2, tokens, kv_heads, head_dim] (`backends.allocate_scratch`).
    """
    from gemmad.kernels.triton import attention as paging
    from gemmad.kernels.triton import logprobs, norms, products, rope
    from gemmad.kernels.triton import sampling as drawing
    from gemmad.kernels.triton import steering as steers
    from gemmad.kernels.triton.gather import GatheredAttention

    prepare: Callable[[AttentionBatch], Any] = paging.plan_launch
    attend: Callable[..., torch.Tensor] = paging.paged_attention
    if backend is not None:
        assert scratch is not None, "a backend needs a scratch"
        gathered = GatheredAttention(backend, scratch)
        prepare, attend = gathered.prepare, gathered.attend
    return Ops(
        rms_norm=norms.rms_norm,
        add_norm=norms.add_norm,
        embed=products.embed,
        linear=products.linear,
        linear_add_norm=products.linear_add_norm,
        gate_up_gelu=products.gate_up_gelu,
        rope_tables=rope.rope_tables,
        rotate_and_store=rope.rotate_and_store,
        prepare_attention=prepare,
        attention=attend,
        sample=drawing.sample,
        steer=steers.steer,
        count_said=steers.count_said,
        logprobs=logprobs.logprobs,
    )


def ops_for(device: torch.device, *, backend: Backend | None = None, scratch: torch.Tensor | None = None) -> Ops:
    """The fastest set for a device; `backend` and `scratch` as for `triton_ops`, and of no use to a CPU."""
    return triton_ops(backend, scratch) if device.type == "cuda" else REFERENCE
