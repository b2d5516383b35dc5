"""Attention by others: libraries that compute queries of several sequences against keys that lie in one piece.

They serve long prompts of text. Whatever they cannot see, our own kernels compute: single tokens, images, and contexts
that do not fit the scratch that keys are gathered into.
"""
# ruff: noqa: PLR0913  (the libraries' own functions take that many)

from __future__ import annotations

import importlib
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Protocol

import torch

from gemmad.errors import ConfigError
from gemmad.generation import AttentionBackend
from gemmad.planning.step import GATHER_TOKENS

GATHER_SEQUENCES = 8
"""Most sequences of a step whose keys are gathered: a library's grid grows with sequences times the longest chunk."""

_AMPERE, _HOPPER = (8, 0), (9, 0)
_FLASH_4, _FLASH_2 = "flash_attn.cute", "flash_attn"


class Varlen(Protocol):
    """Causal softmax attention with grouped queries over ragged sequences.

    q [T, H, D], keys and values [N, K, D] → [T, H, D]. Sequence s owns the queries `query_starts[s] :
    query_starts[s + 1]` and the keys `key_starts[s] : key_starts[s + 1]` (int32, on the device); its last query sees
    its last key, and each query the `window` keys up to its own, or all of those. `max_q` and `max_k` bound the
    lengths. Rows of q after the last sequence's may come back as anything.
    """

    def __call__(
        self,
        q: torch.Tensor,
        keys: torch.Tensor,
        values: torch.Tensor,
        query_starts: torch.Tensor,
        key_starts: torch.Tensor,
        /,
        *,
        max_q: int,
        max_k: int,
        window: int | None,
        scale: float,
    ) -> torch.Tensor:
        """Compute it."""


@dataclass(frozen=True)
class Backend:
    """A library that is there."""

    name: str
    varlen: Varlen


def find_backend(setting: AttentionBackend, device: torch.device) -> Backend | None:
    """Who computes the attention of long prompts on a device; None is our own kernels, on a CPU the reference.

    Raises ConfigError when what is asked for cannot be had; the message says what to install.
    """
    if device.type != "cuda" or setting == "triton":
        return None
    capability = torch.cuda.get_device_capability(device)
    if setting == "torch":
        return _torch_backend(capability)
    found = _flash_backend(capability)
    if setting == "flash" and found is None:
        raise ConfigError(
            'engine.attention is "flash", and no flash-attn can be imported; install flash-attn-4 (for Hopper and '
            'newer) or flash-attn, or set engine.attention to "auto"'
        )
    if setting == "auto" and (found is None or found.name != "flash-attn 4"):
        return None
    return found


def gather_capacity(max_sequences: int, max_context: int) -> int:
    """Tokens that the scratch holds: no more than there can be."""
    return min(GATHER_TOKENS, max_sequences * max_context)


def allocate_scratch(
    tokens: int, *, kv_heads: int, head_dim: int, dtype: torch.dtype, device: torch.device
) -> torch.Tensor:
    """Where keys and values are gathered, [2, tokens, kv_heads, head_dim], shared by all layers; zeroed, as pages are:
    a backend may multiply what it masks."""
    return torch.zeros(2, tokens, kv_heads, head_dim, dtype=dtype, device=device)


def _torch_backend(capability: tuple[int, int]) -> Backend:
    if capability < _AMPERE or not torch.backends.cuda.is_flash_attention_available():
        raise ConfigError(
            'engine.attention is "torch", and torch has no FlashAttention for this GPU; set it to "triton"'
        )
    return Backend("torch", torch_varlen)


def _flash_backend(capability: tuple[int, int]) -> Backend | None:
    if capability >= _HOPPER and (newer := _import(_FLASH_4)):
        return Backend("flash-attn 4", _flash_varlen(newer))
    if capability >= _AMPERE and (older := _import(_FLASH_2)):
        return Backend("flash-attn 2", _flash_varlen(older))
    return None


def _import(name: str) -> ModuleType | None:
    """A module that has what we call; None where it is missing or was built for another torch."""
    try:
        module = importlib.import_module(name)
    except (ImportError, OSError, AttributeError, RuntimeError):
        return None
    return module if hasattr(module, "flash_attn_varlen_func") else None


def torch_varlen(
    q: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    query_starts: torch.Tensor,
    key_starts: torch.Tensor,
    /,
    *,
    max_q: int,
    max_k: int,
    window: int | None,
    scale: float,
) -> torch.Tensor:
    """`Varlen` by the FlashAttention 2 that torch brings along."""
    out: torch.Tensor = torch.ops.aten._flash_attention_forward(
        q, keys, values, query_starts, key_starts, max_q, max_k, 0.0, True, False,
        scale=scale, window_size_left=None if window is None else window - 1, window_size_right=0,
    )[0]  # fmt: skip
    return out


def _flash_varlen(module: ModuleType) -> Varlen:
    """`Varlen` by a flash-attn; 2 and 4 differ in what they call "no limit", and 4 returns more than the result."""
    call: Any = module.flash_attn_varlen_func

    def varlen(
        q: torch.Tensor,
        keys: torch.Tensor,
        values: torch.Tensor,
        query_starts: torch.Tensor,
        key_starts: torch.Tensor,
        /,
        *,
        max_q: int,
        max_k: int,
        window: int | None,
        scale: float,
    ) -> torch.Tensor:
        limits = {} if window is None else {"window_size": (window - 1, 0)}
        out: Any = call(
            q, keys, values, cu_seqlens_q=query_starts, cu_seqlens_k=key_starts, max_seqlen_q=max_q, max_seqlen_k=max_k,
            softmax_scale=scale, causal=True, **limits,
        )  # fmt: skip
        result: torch.Tensor = out[0] if isinstance(out, tuple) else out
        return result

    return varlen
