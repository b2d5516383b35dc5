"""Attention by a backend that knows no pages: what a step's queries may see is gathered into one piece before.

All layers gather into the same scratch, one after the other. Where which key goes is found once in a step, on the
device, so that a captured graph serves every batch of its size; the grid depends on the scratch's size only, and
programs past the last key leave at once.
"""
# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator, name-defined"
# ruff: noqa: N803, PLR0913, PLR0917  (a kernel takes what it touches; capitals are constants)

from __future__ import annotations

from dataclasses import dataclass

import torch
import triton
import triton.language as tl

from gemmad.kernels.backends import Backend, Varlen
from gemmad.kernels.batch import AttentionBatch
from gemmad.kernels.pages import Pages
from gemmad.kernels.triton.attention import Launch, paged_attention
from gemmad.kernels.triton.kvcodes import as_codes, decode

_ROWS = 32
"""Tokens of a program."""


@dataclass(frozen=True)
class Gathered:
    """A batch whose keys are gathered; the same for all layers over one pool."""

    batch: AttentionBatch
    first_keys: torch.Tensor
    """[S] int32: position of the first key that a sequence's queries see."""
    key_starts: torch.Tensor
    """[S + 1] int32: sequence s owns the gathered rows `key_starts[s] : key_starts[s + 1]`."""


class GatheredAttention:
    """Attention of long text prompts by a backend, of all else by our own kernels."""

    def __init__(self, backend: Backend, scratch: torch.Tensor) -> None:
        """`scratch`: [2, tokens, kv_heads, head_dim], keys and values."""
        self._varlen: Varlen = backend.varlen
        self._scratch = scratch

    def prepare(self, batch: AttentionBatch) -> Launch | Gathered:
        """What all layers share: `batch.gather_tokens` says that what is seen fits the scratch and holds no image."""
        if batch.gather_tokens is None or batch.longest_query == 1:
            return Launch(batch)
        assert batch.gather_tokens <= self._scratch.shape[1], "more keys than the scratch holds"
        return plan_gather(batch)

    def attend(
        self,
        q: torch.Tensor,
        pages: Pages,
        shared: Launch | Gathered,
        *,
        scale: float,
    ) -> torch.Tensor:
        """q [T, H, D] → [T, H, D]; what `paged_attention` computes."""
        if isinstance(shared, Launch):
            return paged_attention(q, pages, shared, scale=scale)
        batch = shared.batch
        assert batch.gather_tokens is not None, "asked before"
        keys, values = self._scratch[:, : batch.gather_tokens]
        gather(pages, shared, keys, values)
        return self._varlen(
            q,
            keys,
            values,
            batch.query_starts,
            shared.key_starts,
            max_q=batch.longest_query,
            max_k=batch.gather_tokens,
            window=batch.window,
            scale=scale,
        )


def plan_gather(batch: AttentionBatch) -> Gathered:
    """Which keys are seen: of a whole context all, of a window those from the first query's on."""
    contexts = batch.context_lens
    if batch.window is None:
        first = torch.zeros_like(contexts)
    else:
        rows = batch.query_starts[:-1].clamp_max(len(batch.positions) - 1)  # a sequence without tokens may begin there
        first = (batch.positions[rows].int() - (batch.window - 1)).clamp_min(0)
    starts = torch.zeros_like(batch.query_starts)
    torch.cumsum((contexts - first).clamp_min(0), 0, dtype=torch.int32, out=starts[1:])
    return Gathered(batch, first, starts)


def gather(pages: Pages, shared: Gathered, keys: torch.Tensor, values: torch.Tensor) -> None:
    """Copy what is seen from pages of K heads into `keys` and `values` [tokens, K, D], in the order of sequences and
    positions; rows after the last stay as they are. Codes become the numbers that they stand for."""
    view = as_codes(pages)
    batch = shared.batch
    tokens, kv_heads, head_dim = keys.shape
    sequences = batch.context_lens.shape[0]
    _gather[(triton.cdiv(tokens, _ROWS), kv_heads)](
        view.keys, view.values, view.key_scales, view.value_scales, keys, values, shared.key_starts, shared.first_keys,
        batch.page_table, batch.columns, sequences, *view.strides, *view.scale_strides, *keys.stride()[:2],
        HEAD_DIM=head_dim, BLOCK_D=triton.next_power_of_2(head_dim), BLOCK_S=triton.next_power_of_2(sequences),
        PAGE=batch.page_tokens, ROWS=_ROWS, KIND=view.kind, num_warps=4, enable_fp_fusion=True,
    )  # fmt: skip


@triton.jit(do_not_specialize=["sequences"])
def _gather(
    k_pages, v_pages, k_scales, v_scales, keys, values, key_starts, first_keys, table, columns_ptr, sequences,
    page_stride, token_stride, head_stride, scale_page_stride, scale_token_stride, scale_head_stride,
    row_stride, row_head_stride,
    HEAD_DIM: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_S: tl.constexpr, PAGE: tl.constexpr, ROWS: tl.constexpr,
    KIND: tl.constexpr,
):  # fmt: skip
    first_row = tl.program_id(0) * ROWS
    head = tl.program_id(1)
    last = tl.load(key_starts + sequences)
    if first_row >= last:
        return
    columns = tl.load(columns_ptr)
    row = first_row + tl.arange(0, ROWS)
    # A row's sequence: as many as end at or before it.
    index = tl.arange(0, BLOCK_S)
    ends = tl.load(key_starts + 1 + index, mask=index < sequences, other=0x7FFFFFFF)
    sequence = tl.sum((ends[None, :] <= row[:, None]).to(tl.int32), 1)
    there = row < last
    key = (
        tl.load(first_keys + sequence, mask=there, other=0) + row - tl.load(key_starts + sequence, mask=there, other=0)
    )
    page = tl.load(table + sequence * columns + (key // PAGE) % columns, mask=there, other=0)
    source = page.to(tl.int64) * page_stride + (key % PAGE) * token_stride + head * head_stride
    target = row * row_stride + head * row_head_stride
    dims = tl.arange(0, BLOCK_D)
    inside = there[:, None] & (dims < HEAD_DIM)[None, :]
    source = source[:, None] + dims[None, :]
    target = target[:, None] + dims[None, :]
    k = tl.load(k_pages + source, mask=inside, other=0)
    v = tl.load(v_pages + source, mask=inside, other=0)
    if KIND:
        place = page.to(tl.int64) * scale_page_stride + (key % PAGE) * scale_token_stride + head * scale_head_stride
        k = decode(k, KIND) * tl.load(k_scales + place, mask=there, other=0.0)[:, None]
        v = decode(v, KIND) * tl.load(v_scales + place, mask=there, other=0.0)[:, None]
    tl.store(keys + target, k, mask=inside)
    tl.store(values + target, v, mask=inside)
