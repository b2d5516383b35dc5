"""Which library computes long prompts, and how it is called."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import pytest
import torch

from gemmad.kernels import backends
from gemmad.planning.step import GATHER_TOKENS

CPU = torch.device("cpu")


@pytest.mark.parametrize("setting", ["auto", "triton", "torch", "flash"])
def test_a_cpu_has_none(setting: Any) -> None:
    """On a CPU the reference computes everything, whatever is set."""
    assert backends.find_backend(setting, CPU) is None


def test_the_scratch_holds_no_more_than_there_can_be() -> None:
    """Short contexts and few sequences need less than the most."""
    assert backends.gather_capacity(4, 512) == 2048
    assert backends.gather_capacity(64, 131072) == GATHER_TOKENS
    scratch = backends.allocate_scratch(16, kv_heads=2, head_dim=8, dtype=torch.float32, device=CPU)
    assert scratch.shape == (2, 16, 2, 8)
    assert not scratch.any()


def test_a_library_that_cannot_be_imported_is_none() -> None:
    """Missing modules, and such without the function, are not taken."""
    assert backends._import("no_such_library_anywhere") is None
    assert backends._import("json") is None


@pytest.mark.parametrize(("window", "limits"), [(None, {}), (1024, {"window_size": (1023, 0)})])
@pytest.mark.parametrize("extra", [False, True], ids=["result", "result and more"])
def test_what_flash_attn_is_told(window: int | None, limits: dict[str, Any], extra: bool) -> None:
    """Both generations are called by names that both have, and the result is the first of what comes back."""
    told: dict[str, Any] = {}
    result = torch.ones(3)

    def call(q: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, **more: Any) -> Any:
        told.update(more)
        return (result, None) if extra else result

    library = ModuleType("library")
    library.__dict__["flash_attn_varlen_func"] = call
    starts, lengths = torch.tensor([0, 3]), torch.tensor([0, 7])
    varlen = backends._flash_varlen(library)
    out = varlen(result, result, result, starts, lengths, max_q=3, max_k=7, window=window, scale=0.5)
    assert out is result
    assert told == {
        "cu_seqlens_q": starts, "cu_seqlens_k": lengths, "max_seqlen_q": 3, "max_seqlen_k": 7,
        "softmax_scale": 0.5, "causal": True, **limits,
    }  # fmt: skip


@pytest.mark.parametrize("window", [None, 4])
def test_what_torch_is_told(window: int | None) -> None:
    """torch's own function takes the arguments in this order and form, and gives the queries' shape."""
    starts = torch.tensor([0, 3], dtype=torch.int32, device="meta")
    q, keys = torch.empty(3, 4, 8, device="meta"), torch.empty(9, 2, 8, device="meta")
    out = backends.torch_varlen(q, keys, keys, starts, starts, max_q=3, max_k=9, window=window, scale=0.5)
    assert out.shape == q.shape
