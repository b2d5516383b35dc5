"""Products with a weight for so few tokens that reading the weight once is all the time there is.

A program takes ROWS rows of the weight and walks along them, COLUMNS at a time. Three inner loops: `multiply` keeps
sums in every thread and adds them up at the end, its inputs handed round through shared memory; `direct` does the same
with inputs that each thread reads for itself, so that none waits for another; `dot` gives tiles to the tensor cores,
which costs the same for 1 token as for 8. Which is faster where is measured, and stands in `tiles`. All sum in float32.

Each program reads all tokens' inputs, from L2: with 32 tokens and 64 rows that is half as much again as the weights. So
more tokens want more rows to a program, and then there are too few programs for the device: `splits` of them share the
columns of the same rows, each writes its part of the sums, and whatever reads them next adds the parts up, always in
the same order. Equal inputs give equal bits.
"""
# mypy: disable-error-code="no-untyped-def,untyped-decorator"
# ruff: noqa: N803, N806, PLR0913, PLR0917  (compile-time values are written in capitals; a kernel takes what it touches)

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch.nn import functional as F

from gemmad.kernels.triton import launch
from gemmad.kernels.triton.device import shared_memory_bytes
from gemmad.kernels.triton.launch import begin, wait_for_inputs
from gemmad.kernels.triton.parts import add_parts, gelu, gelu_gate
from gemmad.kernels.triton.tiles import Tile, tile_for


def linear(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """`x·weightᵀ`, as `reference.coded.linear` defines it, by whatever is fastest for so many tokens."""
    tile = _tile(x, weight)
    return F.linear(x, weight) if tile is None else multiply_rows(x, weight, tile)


def gate_up_gelu(x: torch.Tensor, gate_up: torch.Tensor) -> torch.Tensor:
    """`gelu_tanh(x·gateᵀ) · (x·upᵀ)`, as `reference.coded.gate_up_gelu` defines it."""
    tile = _tile(x, gate_up, gated=True)
    return gelu_gate(F.linear(x, gate_up)) if tile is None else multiply_rows(x, gate_up, tile, gated=True)


def product(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """`x·weightᵀ` for a norm that adds up parts: [T, N] in x's dtype, or [splits, T, N] float32."""
    tile = _tile(x, weight)
    return linear(x, weight) if tile is None or tile.splits == 1 else multiply_parts(x, weight, tile)


def _tile(x: torch.Tensor, weight: torch.Tensor, *, gated: bool = False) -> Tile | None:
    if not x.is_cuda:
        return None
    n, k = weight.shape
    return tile_for(
        n // 2 if gated else n,
        k,
        len(x),
        gated=gated,
        weight_bytes=weight.element_size(),
        shared_bytes=shared_memory_bytes(x.device),
    )


def multiply_rows(
    x: torch.Tensor, weight: torch.Tensor, tile: Tile, *, gated: bool = False, out: torch.Tensor | None = None
) -> torch.Tensor:
    """`x·weightᵀ` cut up as told; `gated` multiplies gelu of the first half of the rows with the second half.

    x [T, K], weight [N, K] (gated: [2·N, K]) → [T, N] in x's dtype. Rounds once, at the end: the halves of a gated
    product are not rounded before they meet, as they are in the reference.
    """
    n = weight.shape[0] // 2 if gated else weight.shape[0]
    out = torch.empty(len(x), n, dtype=x.dtype, device=x.device) if out is None else out
    if tile.splits > 1:
        assert not gated, "a gate needs whole sums"
        return add_parts(multiply_parts(x, weight, tile), out)
    _multiply_into(out[None], x, weight, tile, gated=gated)
    return out


def multiply_parts(x: torch.Tensor, weight: torch.Tensor, tile: Tile) -> torch.Tensor:
    """The sums that each of a tile's splits comes to, [splits, T, N] float32; added up they are the product."""
    parts = torch.empty(tile.splits, len(x), len(weight), dtype=torch.float32, device=x.device)
    _multiply_into(parts, x, weight, tile, gated=False)
    return parts


def _multiply_into(out: torch.Tensor, x: torch.Tensor, weight: torch.Tensor, tile: Tile, *, gated: bool) -> None:
    parts, tokens, n = out.shape
    k = x.shape[1]
    assert weight.is_contiguous(), "a weight is read in one sweep"
    assert x.stride(1) == out.stride(2) == 1, "an activation's row lies in one piece"
    width: int = triton.next_power_of_2(tokens)
    sizes: dict[str, Any] = {"N": n, "K": k, "ROWS": tile.rows, "COLUMNS": tile.columns, "STAGES": tile.stages}
    sizes |= {"GATED": gated, "AHEAD": tile.ahead_bytes} | launch.options(x.device, warps=tile.warps)
    strides = x.stride(0), out.stride(1)
    if tile.loop == "dot":
        share = triton.cdiv(triton.cdiv(k, tile.columns), parts) * tile.columns
        _dot[(triton.cdiv(n, tile.rows), parts)](
            x, weight, out, tokens, *strides, out.stride(0), WIDTH=max(8, width), SHARE=share, PARTS=parts, **sizes
        )  # fmt: skip
    else:
        assert parts == 1, "only `dot` shares out columns"
        _multiply[(triton.cdiv(n, tile.rows),)](
            x, weight, out, tokens, *strides, WIDTH=width, DIRECT=tile.loop == "direct", **sizes
        )  # fmt: skip


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
    call_ahead(weight, read_row, 0, N, K, ROWS, GATED, AHEAD, OVERLAP)
    wait_for_inputs(OVERLAP)
    EXACT: tl.constexpr = K % COLUMNS == 0
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
        values = load_tile(source + column, index + column, K, EXACT).to(tl.float32)
        total += load_tile(first + column, index + column, K, EXACT).to(tl.float32) * values
        if GATED:
            beside += load_tile(first + N * K + column, index + column, K, EXACT).to(tl.float32) * values
    result = tl.sum(total, 1 if WIDTH == 1 else 2)
    if GATED:
        result = gelu(result) * tl.sum(beside, 1 if WIDTH == 1 else 2)
    if WIDTH == 1:
        tl.store(out + row, result, mask=row < N)
    else:
        inside = (token < tokens)[:, None] & (row < N)[None, :]
        tl.store(out + token[:, None] * out_stride + row[None, :], result, mask=inside)


@triton.jit(do_not_specialize=["tokens"])
def _dot(
    x, weight, out, tokens, x_stride, out_stride, part_stride,
    N: tl.constexpr, K: tl.constexpr, WIDTH: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
    SHARE: tl.constexpr, PARTS: tl.constexpr, STAGES: tl.constexpr, GATED: tl.constexpr, AHEAD: tl.constexpr,
    OVERLAP: tl.constexpr,
):  # fmt: skip
    """Weights on the left: their rows are the tensor cores' 16 or 64, tokens their 8 (rounded up to that)."""
    begin(OVERLAP)
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    start = tl.program_id(1) * SHARE
    token = tl.arange(0, WIDTH)
    columns = start + tl.arange(0, COLUMNS)
    read_row = tl.minimum(row, N - 1)
    call_ahead(weight, read_row, start, N, K, ROWS, GATED, AHEAD, OVERLAP)
    wait_for_inputs(OVERLAP)
    EXACT: tl.constexpr = SHARE * PARTS == K
    first = weight + read_row[:, None] * K + columns[None, :]
    source = x + tl.minimum(token, tokens - 1)[None, :] * x_stride + columns[:, None]
    total = tl.zeros((ROWS, WIDTH), tl.float32)
    beside = tl.zeros((ROWS, WIDTH), tl.float32)
    for column in tl.range(0, SHARE, COLUMNS, num_stages=STAGES):
        across = columns[None, :] + column
        values = load_tile(source + column, columns[:, None] + column, K, EXACT)
        total = tl.dot(load_tile(first + column, across, K, EXACT), values, total, input_precision="ieee")
        if GATED:
            other = load_tile(first + N * K + column, across, K, EXACT)
            beside = tl.dot(other, values, beside, input_precision="ieee")
    if GATED:
        total = gelu(total) * beside
    inside = (token < tokens)[None, :] & (row < N)[:, None]
    place = out + tl.program_id(1).to(tl.int64) * part_stride
    tl.store(place + token[None, :] * out_stride + row[:, None], total, mask=inside)


@triton.jit
def load_tile(pointers, columns, K: tl.constexpr, EXACT: tl.constexpr):
    """A tile, zeros past the last column; no mask where no tile reaches so far."""
    if EXACT:
        return tl.load(pointers)
    else:
        return tl.load(pointers, mask=columns < K, other=0.0)


@triton.jit
def call_ahead(
    weight, row, start, N: tl.constexpr, K: tl.constexpr, ROWS: tl.constexpr, GATED: tl.constexpr, AHEAD: tl.constexpr,
    OVERLAP: tl.constexpr,
):  # fmt: skip
    """Call the first AHEAD bytes of a program's rows, from `start` on, into L2, a line of 128 bytes for each thread."""
    if OVERLAP and AHEAD > 0:
        SHARE: tl.constexpr = AHEAD // ROWS // (2 if GATED else 1) // 128
        LINES: tl.constexpr = SHARE if SHARE > 1 else 1
        lines = start + tl.arange(0, LINES)[None, :] * (1024 // weight.dtype.element_ty.primitive_bitwidth)
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
