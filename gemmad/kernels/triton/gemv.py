"""Products with a weight for so few tokens that reading the weight once is all the time there is.

A program takes ROWS rows of the weight and walks along them, COLUMNS at a time. Three inner loops: `multiply` keeps
sums in every thread and adds them up at the end, its inputs handed round through shared memory; `direct` does the same
with inputs that each thread reads for itself, so that none waits for another; `dot` gives tiles to the tensor cores,
which costs the same for 1 token as for 8. Which is faster where is measured, and stands in `TUNED`. All sum in float32.
"""
# mypy: disable-error-code="no-untyped-def,untyped-decorator"
# ruff: noqa: N803, N806, PLR0913, PLR0917  (compile-time values are written in capitals; a kernel takes what it touches)

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
import triton
import triton.language as tl
from torch.nn import functional as F

from gemmad.kernels.triton import launch
from gemmad.kernels.triton.launch import begin, wait_for_inputs


@dataclass(frozen=True)
class Tile:
    """How one product is cut up."""

    loop: Literal["multiply", "direct", "dot"]
    rows: int
    columns: int
    warps: int
    stages: int = 1
    """Tiles on their way at once; above 1 they travel through shared memory."""
    ahead_bytes: int = 0
    """Of each program's weights, how much is called into L2 while its inputs are still being made (see launch.py)."""


MOST_TOKENS = 16
"""More tokens than this are cuBLAS's (and its output is then gated by a kernel of its own)."""

TUNED: dict[tuple[bool, int, int, int], Tile | None] = {
    # (gated, N, K, tokens up to): the 12B network on an H200, bf16. None is cuBLAS.
    (False, 8192, 3840, 1): Tile("direct", 1, 2048, 4),
    (False, 3840, 4096, 1): Tile("direct", 2, 2048, 4),
    (True, 15360, 3840, 1): Tile("direct", 1, 2048, 4),
    (False, 3840, 15360, 1): Tile("direct", 1, 2048, 4),
    (False, 262208, 3840, 1): None,
} | {
    (gated, n, k, tokens): tile
    for gated, n, k, tile in (
        (False, 8192, 3840, Tile("dot", 32, 256, 2, 3)),
        (False, 3840, 4096, Tile("dot", 16, 256, 2, 4)),
        (True, 15360, 3840, Tile("dot", 64, 128, 4, 4)),
        (False, 3840, 15360, Tile("dot", 16, 512, 2, 3)),
        (False, 262208, 3840, None),
    )
    for tokens in (2, 4, 8, 16)
}


def tile_for(n: int, k: int, tokens: int, *, gated: bool) -> Tile | None:
    """The measured tile of a shape, or for one that nobody measured a rule of the same kind; None is cuBLAS."""
    if not 0 < tokens <= MOST_TOKENS:
        return None
    bucket: int = triton.next_power_of_2(tokens)
    if (gated, n, k, bucket) in TUNED:
        return TUNED[gated, n, k, bucket]
    if bucket > 1:
        return Tile("dot", 16, 256, 2, 4)
    rows = 2 if n <= 4096 or gated else 4
    return Tile("multiply", rows, 2048 // rows if k >= 2048 // rows else 256, 2)


def linear(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """`x·weightᵀ`, as `reference.network.linear` defines it, by whatever is fastest for so many tokens."""
    n, k = weight.shape
    tile = tile_for(n, k, len(x), gated=False) if x.is_cuda else None
    return F.linear(x, weight) if tile is None else multiply_rows(x, weight, tile)


def gate_up_gelu(x: torch.Tensor, gate_up: torch.Tensor) -> torch.Tensor:
    """`gelu_tanh(x·gateᵀ) · (x·upᵀ)`, as `reference.network.gate_up_gelu` defines it."""
    n, k = gate_up.shape[0] // 2, gate_up.shape[1]
    tile = tile_for(n, k, len(x), gated=True) if x.is_cuda else None
    return gelu_gate(F.linear(x, gate_up)) if tile is None else multiply_rows(x, gate_up, tile, gated=True)


def multiply_rows(
    x: torch.Tensor, weight: torch.Tensor, tile: Tile, *, gated: bool = False, out: torch.Tensor | None = None
) -> torch.Tensor:
    """`x·weightᵀ` cut up as told; `gated` multiplies gelu of the first half of the rows with the second half.

    x [T, K], weight [N, K] (gated: [2·N, K]) → [T, N] in x's dtype. Rounds once, at the end: the halves of a gated
    product are not rounded before they meet, as they are in the reference.
    """
    tokens, k = x.shape
    n = weight.shape[0] // 2 if gated else weight.shape[0]
    assert weight.is_contiguous(), "a weight is read in one sweep"
    assert x.stride(1) == 1, "an activation's row lies in one piece"
    out = torch.empty(tokens, n, dtype=x.dtype, device=x.device) if out is None else out
    width: int = triton.next_power_of_2(tokens)
    if tile.loop == "dot":
        kernel, more = _dot, {"WIDTH": max(8, width)}
    else:
        kernel, more = _multiply, {"WIDTH": width, "DIRECT": tile.loop == "direct"}
    kernel[(triton.cdiv(n, tile.rows),)](
        x, weight, out, tokens, x.stride(0), out.stride(0),
        N=n, K=k, ROWS=tile.rows, COLUMNS=tile.columns, STAGES=tile.stages, GATED=gated, AHEAD=tile.ahead_bytes,
        **more, **launch.options(x.device, warps=tile.warps),
    )  # fmt: skip
    return out


def gelu_gate(halves: torch.Tensor, *, out: torch.Tensor | None = None) -> torch.Tensor:
    """`gelu_tanh(first half) · second half` of each row: [T, 2·N] → [T, N]."""
    tokens, n = halves.shape[0], halves.shape[1] // 2
    out = torch.empty(tokens, n, dtype=halves.dtype, device=halves.device) if out is None else out
    block = 1024
    _gelu_gate[(tokens, triton.cdiv(n, block))](
        halves, out, halves.stride(0), out.stride(0), n, BLOCK=block, **launch.options(halves.device, warps=4)
    )  # fmt: skip
    return out


@triton.jit
def _multiply(
    x, weight, out, tokens, x_stride, out_stride,
    N: tl.constexpr, K: tl.constexpr, WIDTH: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
    STAGES: tl.constexpr, GATED: tl.constexpr, AHEAD: tl.constexpr, DIRECT: tl.constexpr, OVERLAP: tl.constexpr,
):  # fmt: skip
    """Sums of products, one for each thread, row and token; added up across threads after the last column."""
    begin(OVERLAP)
    # Rows past the end repeat the last one, tokens likewise: read again, and not stored.
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    token = tl.arange(0, WIDTH)
    columns = tl.arange(0, COLUMNS)
    read_row = tl.minimum(row, N - 1)
    call_ahead(weight, read_row, N, K, ROWS, GATED, AHEAD, OVERLAP)
    wait_for_inputs(OVERLAP)
    if WIDTH == 1:
        first = weight + read_row[:, None] * K + columns[None, :]
        source = x + columns[None, :]
        total = tl.zeros((ROWS, COLUMNS), tl.float32)
        beside = tl.zeros((ROWS, COLUMNS), tl.float32)
        index = columns[None, :]
        if DIRECT:
            source += 0 * row[:, None]
    else:
        first = weight + read_row[None, :, None] * K + columns[None, None, :]
        source = x + tl.minimum(token, tokens - 1)[:, None, None] * x_stride + columns[None, None, :]
        total = tl.zeros((WIDTH, ROWS, COLUMNS), tl.float32)
        beside = tl.zeros((WIDTH, ROWS, COLUMNS), tl.float32)
        index = columns[None, None, :]
        if DIRECT:
            source += 0 * row[None, :, None]
            first += 0 * token[:, None, None]
    for column in tl.range(0, K, COLUMNS, num_stages=STAGES):
        values = load_tile(source + column, index + column, K, COLUMNS)
        total += load_tile(first + column, index + column, K, COLUMNS) * values
        if GATED:
            beside += load_tile(first + N * K + column, index + column, K, COLUMNS) * values
    result = tl.sum(total, 1 if WIDTH == 1 else 2)
    if GATED:
        result = gelu(result) * tl.sum(beside, 1 if WIDTH == 1 else 2)
    if WIDTH == 1:
        tl.store(out + row, result, mask=row < N)
    else:
        inside = (token < tokens)[:, None] & (row < N)[None, :]
        tl.store(out + token[:, None] * out_stride + row[None, :], result, mask=inside)


@triton.jit
def _dot(
    x, weight, out, tokens, x_stride, out_stride,
    N: tl.constexpr, K: tl.constexpr, WIDTH: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
    STAGES: tl.constexpr, GATED: tl.constexpr, AHEAD: tl.constexpr, OVERLAP: tl.constexpr,
):  # fmt: skip
    """Weights on the left: their rows are the tensor cores' 16, tokens their 8 (rounded up to that)."""
    begin(OVERLAP)
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    token = tl.arange(0, WIDTH)
    columns = tl.arange(0, COLUMNS)
    read_row = tl.minimum(row, N - 1)
    call_ahead(weight, read_row, N, K, ROWS, GATED, AHEAD, OVERLAP)
    wait_for_inputs(OVERLAP)
    first = weight + read_row[:, None] * K + columns[None, :]
    source = x + tl.minimum(token, tokens - 1)[None, :] * x_stride + columns[:, None]
    total = tl.zeros((ROWS, WIDTH), tl.float32)
    beside = tl.zeros((ROWS, WIDTH), tl.float32)
    for column in tl.range(0, K, COLUMNS, num_stages=STAGES):
        across = columns[None, :] + column
        values = raw_tile(source + column, columns[:, None] + column, K, COLUMNS)
        total = tl.dot(raw_tile(first + column, across, K, COLUMNS), values, total, input_precision="ieee")
        if GATED:
            other = raw_tile(first + N * K + column, across, K, COLUMNS)
            beside = tl.dot(other, values, beside, input_precision="ieee")
    if GATED:
        total = gelu(total) * beside
    inside = (token < tokens)[None, :] & (row < N)[:, None]
    tl.store(out + token[None, :] * out_stride + row[:, None], total, mask=inside)


@triton.jit
def _gelu_gate(halves, out, stride, out_stride, n, BLOCK: tl.constexpr, OVERLAP: tl.constexpr):
    begin(OVERLAP)
    wait_for_inputs(OVERLAP)
    row = tl.program_id(0).to(tl.int64)
    columns = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = columns < n
    gate = tl.load(halves + row * stride + columns, mask=inside, other=0.0)
    up = tl.load(halves + row * stride + n + columns, mask=inside, other=0.0)
    dtype = halves.dtype.element_ty
    gate = gelu(gate.to(tl.float32)).to(dtype).to(tl.float32)  # rounded where the reference's tensor is
    tl.store(out + row * out_stride + columns, gate * up.to(tl.float32), mask=inside)


@triton.jit
def gelu(x):
    """`x · ½(1 + tanh(√(2/π)·(x + 0.044715·x³)))` (https://arxiv.org/abs/1606.08415); `½(1 + tanh y) = sigmoid(2y)`."""
    return x * tl.sigmoid(1.5957691216057308 * (x + 0.044715 * x * x * x))


@triton.jit
def load_tile(pointers, columns, K: tl.constexpr, COLUMNS: tl.constexpr):
    """A tile in float32."""
    return raw_tile(pointers, columns, K, COLUMNS).to(tl.float32)


@triton.jit
def raw_tile(pointers, columns, K: tl.constexpr, COLUMNS: tl.constexpr):
    """A tile, zeros past the last column; no mask where there is no such place."""
    if K % COLUMNS == 0:
        return tl.load(pointers)
    else:
        return tl.load(pointers, mask=columns < K, other=0.0)


@triton.jit
def call_ahead(
    weight, row, N: tl.constexpr, K: tl.constexpr, ROWS: tl.constexpr, GATED: tl.constexpr, AHEAD: tl.constexpr,
    OVERLAP: tl.constexpr,
):  # fmt: skip
    """Call the first AHEAD bytes of a program's rows into L2, a line of 128 bytes for each thread."""
    if OVERLAP and AHEAD > 0:
        SHARE: tl.constexpr = AHEAD // ROWS // (2 if GATED else 1) // 128
        LINES: tl.constexpr = SHARE if SHARE > 1 else 1
        lines = tl.arange(0, LINES)[None, :] * (1024 // weight.dtype.element_ty.primitive_bitwidth)
        places = weight + row[:, None] * K + tl.minimum(lines, K - 1)
        prefetch(places)
        if GATED:
            prefetch(places + N * K)


@triton.jit
def prefetch(places):
    """Ask for the lines at `places`; nothing waits for them."""
    tl.inline_asm_elementwise(
        "prefetch.global.L2 [$1]; mov.u32 $0, 0;",
        "=r,l",
        [places.to(tl.int64)],
        dtype=tl.int32,
        is_pure=False,
        pack=1,
    )
