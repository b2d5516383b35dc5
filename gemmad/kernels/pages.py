"""Pages of keys and values as kernels take them: plain numbers, or codes of 8 bits with scales.

A coded row, one token's of one head, is `scale · code`, the scale float32 and such that the row's largest magnitude is
the largest code: 127 of int8 or 448 of e4m3 (https://arxiv.org/abs/2209.05433). Nothing but the row itself decides
its codes: who may share a plain page may share a coded one, and what is computed anew comes out as it was.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from gemmad.generation import KVFormat

LARGEST_CODE = {torch.int8: 127.0, torch.float8_e4m3fn: 448.0}
"""By the types that codes are kept in."""
_CODED = {"int8": torch.int8, "fp8": torch.float8_e4m3fn}


@dataclass(frozen=True)
class Pages:
    """One layer's pages. Any of its tensors may be a view in which a head's row lies in one piece."""

    keys: torch.Tensor
    """[pages, page_tokens, kv_heads, head_dim] bfloat16 or float32, or int8 or float8_e4m3fn codes."""
    values: torch.Tensor
    """As `keys`."""
    key_scales: torch.Tensor | None = None
    """[pages, page_tokens, kv_heads] float32; None where keys and values are no codes."""
    value_scales: torch.Tensor | None = None
    """As `key_scales`, strides included."""

    @property
    def coded(self) -> bool:
        """Whether keys and values are codes."""
        return self.key_scales is not None

    @property
    def nbytes(self) -> int:
        """Bytes of all that it is made of."""
        scales = (each.nbytes for each in (self.key_scales, self.value_scales) if each is not None)
        return self.keys.nbytes + self.values.nbytes + sum(scales)


def page_type(kv: KVFormat, dtype: torch.dtype) -> torch.dtype:
    """What numbers of a page are kept in, in a network that computes in `dtype`."""
    return _CODED.get(kv, dtype)


def zeroed_pages(
    layers: int, size: tuple[int, int, int, int], *, dtype: torch.dtype, device: torch.device
) -> tuple[Pages, ...]:
    """As many layers' pages of `size` [pages, page_tokens, kv_heads, head_dim] and a `page_type`, views of one tensor
    or two. Zeroed: attention may multiply what it masks, and 0 · NaN is NaN."""
    pages, page_tokens, kv_heads, _ = size
    whole = torch.zeros(layers, 2, *size, dtype=dtype, device=device)
    if dtype not in LARGEST_CODE:
        return tuple(Pages(layer[0], layer[1]) for layer in whole)
    # A head's scales side by side: attention reads one head's of many tokens.
    scales = torch.zeros(layers, 2, pages, kv_heads, page_tokens, device=device).transpose(3, 4)
    return tuple(Pages(codes[0], codes[1], scale[0], scale[1]) for codes, scale in zip(whole, scales, strict=True))


def encode_rows(rows: torch.Tensor, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows [..., D] → codes [..., D] of a coded `page_type`, rounded to nearest even, and scales [...] float32."""
    rows, largest = rows.float(), LARGEST_CODE[dtype]
    reach = rows.abs().amax(-1)
    spread = torch.where(reach > 0, largest / reach, 0.0)
    codes = (rows * spread[..., None]).clamp(-largest, largest)
    return (codes.round() if dtype == torch.int8 else codes).to(dtype), reach / largest


def decode_rows(codes: torch.Tensor, scales: torch.Tensor) -> torch.Tensor:
    """The numbers [..., D] float32 that codes [..., D] and scales [...] stand for."""
    return codes.float() * scales[..., None]
