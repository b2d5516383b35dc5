"""Penalties, bias and grammar in one pass over the logits, and the count of what was said; see `reference.steering`.

Everything that differs between rows is read on the device, so one captured graph serves every mixture of them. A row
that wants nothing is a copy in float32; its programs read no table.
"""
# mypy: disable-error-code="no-untyped-def,untyped-decorator"
# ruff: noqa: N803, PLR0913, PLR0917  (compile-time arguments are written in capitals; a kernel takes what it touches)

from __future__ import annotations

import torch
import triton
import triton.language as tl

from gemmad.kernels.batch import SteeringBatch
from gemmad.kernels.triton import launch
from gemmad.kernels.triton.launch import begin, wait_for_inputs

_CHUNK = 4096
"""Tokens of the vocabulary for one program."""


def steer(logits: torch.Tensor, batch: SteeringBatch, *, chunk: int = _CHUNK) -> torch.Tensor:
    """logits [R, vocab] of any float type → float32, steered; `reference.steering.steer`."""
    rows, vocabulary = logits.shape
    assert logits.stride(1) == 1, "a row of logits lies in one piece"
    assert batch.said.stride(1) == batch.masks.stride(1) == 1, "a row of the tables lies in one piece"
    out = torch.empty(rows, vocabulary, dtype=torch.float32, device=logits.device)
    _steer[(rows, triton.cdiv(vocabulary, chunk))](
        logits, logits.stride(0), batch.slot, batch.repetition, batch.frequency, batch.presence,
        batch.said, batch.said.stride(0), batch.mask_row, batch.masks, batch.masks.stride(0), out,
        VOCABULARY=vocabulary, CHUNK=chunk, **launch.options(logits.device, warps=4),
    )  # fmt: skip
    biases = batch.bias_ids.shape[1]
    _add_bias[(rows,)](
        batch.slot, batch.bias_ids, batch.bias, out,
        VOCABULARY=vocabulary, BIASES=biases, BLOCK=triton.next_power_of_2(biases),
        **launch.options(logits.device, warps=4),
    )  # fmt: skip
    return out


def count_said(tokens: torch.Tensor, batch: SteeringBatch) -> None:
    """Note what rows with a slot have said, [R] int64; `reference.steering.count_said`."""
    _count_said[(len(tokens),)](
        tokens, batch.slot, batch.said, batch.said.stride(0), **launch.options(tokens.device, warps=1)
    )


@triton.jit
def _steer(
    logits, stride, slot, repetition, frequency, presence, said, said_stride, mask_row, masks, masks_stride, out,
    VOCABULARY: tl.constexpr, CHUNK: tl.constexpr, OVERLAP: tl.constexpr,
):  # fmt: skip
    begin(OVERLAP)
    wait_for_inputs(OVERLAP)
    row = tl.program_id(0).to(tl.int64)
    ids = tl.program_id(1) * CHUNK + tl.arange(0, CHUNK)
    inside = ids < VOCABULARY
    values = tl.load(logits + row * stride + ids, mask=inside, other=0.0).to(tl.float32)
    place = tl.load(slot + row).to(tl.int64)
    if place >= 0:
        entries = tl.load(said + place * said_stride + ids, mask=inside, other=0).to(tl.int32)
        times = (entries & 0x7FFF).to(tl.float32)
        factor = tl.load(repetition + row)
        repeated = tl.where(values < 0.0, values * factor, tl.div_rn(values, factor))
        values = tl.where(entries != 0, repeated, values)
        values = values - tl.load(frequency + row) * times
        values = values - tl.where(times > 0.0, tl.load(presence + row), 0.0)
    held = tl.load(mask_row + row).to(tl.int64)
    if held >= 0:
        words = tl.load(masks + held * masks_stride + (ids >> 5), mask=inside, other=0)
        values = tl.where(((words >> (ids & 31)) & 1) == 1, values, float("-inf"))
    tl.store(out + row * VOCABULARY + ids, values, mask=inside)


@triton.jit
def _add_bias(
    slot, bias_ids, bias, out,
    VOCABULARY: tl.constexpr, BIASES: tl.constexpr, BLOCK: tl.constexpr, OVERLAP: tl.constexpr,
):  # fmt: skip
    begin(OVERLAP)
    wait_for_inputs(OVERLAP)
    row = tl.program_id(0).to(tl.int64)
    place = tl.load(slot + row).to(tl.int64)
    if place >= 0:
        entries = tl.arange(0, BLOCK)
        listed = entries < BIASES
        ids = tl.load(bias_ids + place * BIASES + entries, mask=listed, other=-1)
        there = ids >= 0
        values = tl.load(out + row * VOCABULARY + ids, mask=there, other=0.0)
        added = tl.load(bias + place * BIASES + entries, mask=there, other=0.0)
        tl.store(out + row * VOCABULARY + ids, values + added, mask=there)


@triton.jit
def _count_said(tokens, slot, said, said_stride, OVERLAP: tl.constexpr):
    begin(OVERLAP)
    wait_for_inputs(OVERLAP)
    row = tl.program_id(0).to(tl.int64)
    place = tl.load(slot + row).to(tl.int64)
    if place >= 0:
        entry = said + place * said_stride + tl.load(tokens + row)
        before = tl.load(entry).to(tl.int32)
        after = tl.where((before & 0x7FFF) < 0x7FFF, before + 1, before)
        tl.store(entry, after.to(tl.int16))
