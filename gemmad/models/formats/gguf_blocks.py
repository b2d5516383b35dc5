"""ggml's blocks of numbers (https://github.com/ggml-org/ggml/blob/master/src/ggml-quants.c, `dequantize_row_*`).

A row of a matrix is a row of blocks. What a number is, with d and m float16 of its block, q its code, and of the K
types s and b codes of 6 or 8 bits of its group:

| type | block | a number |
|---|---|---|
| Q4_0, Q5_0, Q8_0 | 32 | d · (q - 8), d · (q - 16), d · q |
| Q4_1, Q5_1 | 32 | d · q + m |
| Q4_K, Q5_K | 256, in groups of 32 | d · s · q - m · b |
| Q6_K | 256, in groups of 16 | d · s · (q - 32) |
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch

Grouped = tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]
"""Codes [N, K], scales [N, G] and what is added [N, G], float32: a number is scale · code + added."""


def _halves(held: torch.Tensor, width: int) -> torch.Tensor:
    """Bytes [N, B, n · width] → [N, B, n · 2 · width]: of each run all lower halves, then all upper ones."""
    runs = held.reshape(*held.shape[:-1], -1, 1, width)
    return torch.cat((runs & 15, runs >> 4), -2).flatten(-3)


def _half_floats(held: torch.Tensor) -> torch.Tensor:
    """Bytes [N, B, 2] → [N, B] float16."""
    return held.contiguous().view(torch.float16).squeeze(-1)


def _five_bits(low: torch.Tensor, high: torch.Tensor) -> torch.Tensor:
    """Bytes [N, B, 16] and [N, B, 4], a bit for each of 32 numbers → codes [N, B, 32]."""
    places = torch.arange(8, device=high.device, dtype=torch.uint8)
    bits = ((high[..., None] >> places) & 1).flatten(-2)
    return _halves(low, 16) | (bits << 4)


def _six_bits(held: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Twelve bytes of a K block [N, B, 12] → its scales and minima, [N, B, 8] each."""
    low, lower, both = held.reshape(*held.shape[:-1], 3, 4).unbind(-2)
    scales = torch.cat((low & 63, (both & 15) | ((low >> 2) & 48)), -1)
    minima = torch.cat((lower & 63, (both >> 4) | ((lower >> 2) & 48)), -1)
    return scales, minima


def _flat(codes: torch.Tensor, scales: torch.Tensor, added: torch.Tensor | None) -> Grouped:
    return codes.flatten(1), scales.flatten(1), None if added is None else added.flatten(1)


def _q4_0(held: torch.Tensor) -> Grouped:
    scales = _half_floats(held[..., :2]).float()
    return _flat(_halves(held[..., 2:], 16), scales, scales * -8.0)


def _q4_1(held: torch.Tensor) -> Grouped:
    return _flat(_halves(held[..., 4:], 16), _half_floats(held[..., :2]).float(), _half_floats(held[..., 2:4]).float())


def _q5_0(held: torch.Tensor) -> Grouped:
    scales = _half_floats(held[..., :2]).float()
    return _flat(_five_bits(held[..., 6:], held[..., 2:6]), scales, scales * -16.0)


def _q5_1(held: torch.Tensor) -> Grouped:
    codes = _five_bits(held[..., 8:], held[..., 4:8])
    return _flat(codes, _half_floats(held[..., :2]).float(), _half_floats(held[..., 2:4]).float())


def _q8_0(held: torch.Tensor) -> Grouped:
    codes = held[..., 2:].contiguous().view(torch.int8)
    return _flat(codes, _half_floats(held[..., :2]).float(), None)


def _k_scales(held: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Of Q4_K and Q5_K: [N, B, 8] each."""
    scales, minima = _six_bits(held[..., 4:16])
    large, small = _half_floats(held[..., :2]).float(), _half_floats(held[..., 2:4]).float()
    return large[..., None] * scales, -(small[..., None] * minima)


def _q4_k(held: torch.Tensor) -> Grouped:
    return _flat(_halves(held[..., 16:], 32), *_k_scales(held))


def _q5_k(held: torch.Tensor) -> Grouped:
    places = torch.arange(8, device=held.device, dtype=torch.uint8)[:, None]
    bits = ((held[..., None, 16:48] >> places) & 1).flatten(-2)
    return _flat(_halves(held[..., 48:], 32) | (bits << 4), *_k_scales(held))


def _q6_k(held: torch.Tensor) -> Grouped:
    places = torch.tensor((0, 2, 4, 6), device=held.device, dtype=torch.uint8)[:, None]
    high = (held[..., 128:192].reshape(*held.shape[:-1], 2, 1, 32) >> places) & 3
    codes = _halves(held[..., :128], 64) | (high.flatten(-3) << 4)
    scales = _half_floats(held[..., 208:]).float()[..., None] * held[..., 192:208].contiguous().view(torch.int8)
    return _flat(codes.view(torch.int8) - 32, scales, None)


UNPACK: Mapping[str, Callable[[torch.Tensor], Grouped]] = {
    "Q4_0": _q4_0,
    "Q4_1": _q4_1,
    "Q5_0": _q5_0,
    "Q5_1": _q5_1,
    "Q8_0": _q8_0,
    "Q4_K": _q4_k,
    "Q5_K": _q5_k,
    "Q6_K": _q6_k,
}
"""Blocks [N, blocks of a row, bytes of a block] uint8 → codes, scales and what is added."""


def block_numbers(kind: str, held: torch.Tensor) -> torch.Tensor:
    """Blocks as in `UNPACK` → numbers [N, K] float32."""
    codes, scales, added = UNPACK[kind](held)
    numbers = codes.float().view(*scales.shape, -1) * scales[..., None]
    return (numbers if added is None else numbers + added[..., None]).flatten(1)
