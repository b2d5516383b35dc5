"""What sequences want of their logits, on the device: tables that are filled when one begins to speak, and a little for
each step; and what is told of the logits, on its way back.

Nothing of it is sent, computed or read in a step in which no speaking sequence wants any. How often a token was said is
counted on the device, right behind the draw, so penalties need nothing from the host.
"""

from __future__ import annotations

from collections.abc import Sequence as Many
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from gemmad.engine.holding import fill_masks
from gemmad.engine.recording import Event, Recorder
from gemmad.engine.sequence import Sequence
from gemmad.engine.slots import Slots
from gemmad.generation import SamplingParams, TokenLogprobs
from gemmad.kernels.batch import SamplingBatch, SteeringBatch
from gemmad.kernels.ops import Ops
from gemmad.kernels.reference.steering import IN_PROMPT, MOST_TIMES
from gemmad.models.gemma3 import Gemma3
from gemmad.planning.step import MOST_BIASES, MOST_LOGPROBS

Array = np.ndarray[Any, np.dtype[Any]]

_TURNS = 2
_ROWS_UNDER_WAY = 8
"""Rows of the tables that can be on their way to the device at a time."""
_TOP = 1
_TOP_IDS = _TOP + MOST_LOGPROBS
_TOLD = _TOP_IDS + MOST_LOGPROBS
"""What is told of a token: its own log-probability, behind it those of the likeliest, then the bits of their ids."""
_WISHES = ("slot", "mask_row", "repetition", "frequency", "presence")
_NOTHING = np.array([-1, -1, *np.array([1.0, 0.0, 0.0], np.float32).view(np.int32)], np.int32)


@dataclass(frozen=True)
class _Row:
    """One sequence's row of the tables, on the host."""

    said: torch.Tensor
    bias_ids: torch.Tensor
    bias: torch.Tensor
    sent: Event


class Steering:
    """The tables, and the buffers that go there and back. Two of each take turns."""

    def __init__(self, model: Gemma3, ops: Ops, *, max_sequences: int, recorder: Recorder) -> None:
        """All that it will ever take is taken here."""
        vocabulary, device = model.vocab_size, model.device
        words = -(-vocabulary // 32)

        def table(width: int, dtype: torch.dtype) -> torch.Tensor:
            return torch.zeros(max_sequences, width, dtype=dtype, device=device)

        self._ops = ops
        self._likeliest = min(MOST_LOGPROBS, vocabulary - 1)
        self._slots = Slots(max_sequences)
        self._said = table(vocabulary, torch.int16)
        self._bias_ids, self._bias = table(MOST_BIASES, torch.int32), table(MOST_BIASES, torch.float32)
        self._masks = table(words, torch.int32)
        self._wishes = torch.from_numpy(_NOTHING)[:, None].repeat(1, max_sequences).to(device)
        self._told = table(_TOLD, torch.float32)
        self._host_rows = [
            _Row(
                recorder.host_buffer(vocabulary, torch.int16),
                recorder.host_buffer(MOST_BIASES, torch.int32),
                recorder.host_buffer(MOST_BIASES, torch.float32),
                recorder.event(),
            )
            for _ in range(min(_ROWS_UNDER_WAY, max_sequences))
        ]
        self._next_row = 0

        def buffers(like: torch.Tensor) -> list[torch.Tensor]:
            return [recorder.host_buffer(like.numel(), like.dtype).view(like.shape) for _ in range(_TURNS)]

        self._host_wishes, self._host_masks = buffers(self._wishes), buffers(self._masks)
        self._host_told = buffers(self._told)
        self._turn = 0

    @property
    def nbytes(self) -> int:
        """Of the tables on the device."""
        tables = (self._said, self._bias_ids, self._bias, self._masks, self._wishes, self._told)
        return sum(table.nbytes for table in tables)

    def send(self, speaking: Many[Sequence], drawn: dict[Sequence, int]) -> None:
        """Tell the device what these want, in the order of the rows that they are drawn from.

        `drawn`: what the step before has drawn for those whose last token is not known yet; of held ones only.
        """
        self._turn = (self._turn + 1) % _TURNS
        for sequence, slot in self._slots.place([s for s in speaking if s.is_weighed or s.sampling.logit_bias]):
            self._fill(sequence, slot)
        held = [sequence for sequence in speaking if sequence.hold is not None]
        self._send_wishes(speaking, held)
        if held:
            masks = self._host_masks[self._turn]
            fill_masks(held, drawn, masks.numpy())
            self._masks[: len(held)].copy_(masks[: len(held)], non_blocking=True)

    def draw(self, logits: torch.Tensor, sampling: SamplingBatch, *, tell: bool = True) -> torch.Tensor:
        """A token for each row, [R, vocab] → [R] int64, as it is wanted; can be recorded. `tell`: leave what the
        network held of them where `bring_told` finds it."""
        batch = self._batch(len(logits))
        drawn = self._ops.sample(self._ops.steer(logits, batch), sampling)
        self._ops.count_said(drawn, batch)
        if tell:
            likeliest, rows = self._likeliest, self._told[: len(logits)]
            told = self._ops.logprobs(logits, drawn, count=likeliest)
            rows[:, 0] = told.token
            rows[:, _TOP : _TOP + likeliest] = told.top
            rows.view(torch.int32)[:, _TOP_IDS : _TOP_IDS + likeliest] = told.top_ids
        return drawn

    def bring_told(self) -> torch.Tensor:
        """Begin to bring back what was told of the step that was sent last. The buffer is good, once the device is
        there, until the step after next."""
        told = self._host_told[self._turn]
        told.copy_(self._told, non_blocking=True)
        return told

    def _batch(self, count: int) -> SteeringBatch:
        whole = dict(zip(_WISHES, self._wishes, strict=True))
        parts = dict(zip(_WISHES, self._wishes.view(torch.float32), strict=True))
        return SteeringBatch(
            slot=whole["slot"][:count],
            repetition=parts["repetition"][:count],
            frequency=parts["frequency"][:count],
            presence=parts["presence"][:count],
            said=self._said,
            bias_ids=self._bias_ids,
            bias=self._bias,
            mask_row=whole["mask_row"][:count],
            masks=self._masks,
        )

    # --- on the host --------------------------------------------------------------------------------------------------

    def _fill(self, sequence: Sequence, slot: int) -> None:
        """Send a sequence's row; what it has said in steps under way is counted there already, or nobody's row is
        taken from one that speaks."""
        assert not sequence.pending, "a sequence lost its row while it was speaking"
        row = self._host_rows[self._next_row]
        self._next_row = (self._next_row + 1) % len(self._host_rows)
        row.sent.synchronize()
        if sequence.is_weighed:
            tally(sequence, row.said.numpy())
            self._said[slot].copy_(row.said, non_blocking=True)
        list_biases(sequence.sampling, row.bias_ids.numpy(), row.bias.numpy())
        self._bias_ids[slot].copy_(row.bias_ids, non_blocking=True)
        self._bias[slot].copy_(row.bias, non_blocking=True)
        row.sent.record()

    def _send_wishes(self, speaking: Many[Sequence], held: Many[Sequence]) -> None:
        wishes = self._host_wishes[self._turn]
        whole = wishes.numpy()
        parts, count, mask_row = whole.view(np.float32), len(speaking), {s: row for row, s in enumerate(held)}
        chosen = [sequence.sampling for sequence in speaking]
        whole[:] = _NOTHING[:, None]
        slots = [self._slots.slot_of(s) if s.is_weighed or s.sampling.logit_bias else None for s in speaking]
        whole[0, :count] = [-1 if slot is None else slot for slot in slots]
        whole[1, :count] = [mask_row.get(sequence, -1) for sequence in speaking]
        parts[2, :count] = [p.repetition_penalty for p in chosen]
        parts[3, :count] = [p.frequency_penalty for p in chosen]
        parts[4, :count] = [p.presence_penalty for p in chosen]
        self._wishes.copy_(wishes, non_blocking=True)


def tally(sequence: Sequence, row: Array) -> None:
    """Write what a sequence has said, and where it matters its prompt, as a row of `SteeringBatch.said`."""
    row.fill(0)
    ids, times = np.unique(np.array(sequence.tokens[sequence.prompt_tokens :], np.int64), return_counts=True)
    row[ids] = np.minimum(times, MOST_TIMES)
    if sequence.sampling.repetition_penalty != 1:
        prompt = np.unique(np.array(sequence.tokens[: sequence.prompt_tokens], np.int64))
        row[prompt[(prompt >= 0) & (prompt < len(row))]] |= IN_PROMPT  # an image's soft tokens may lie outside


def list_biases(sampling: SamplingParams, ids: Array, bias: Array) -> None:
    """Write what a request adds to its logits as a row of `SteeringBatch.bias_ids` and `.bias`."""
    count = len(sampling.logit_bias)
    ids[:count] = [token for token, _ in sampling.logit_bias]
    bias[:count] = [value for _, value in sampling.logit_bias]
    ids[count:], bias[count:] = -1, 0.0


def told_of(speaking: Many[Sequence], rows: torch.Tensor | None) -> list[TokenLogprobs | None]:
    """What a step tells of the tokens of those that asked for it; `rows` as `Steering.bring_told` gives them."""
    if rows is None:
        return [None] * len(speaking)
    values: Array = rows.numpy()
    ids: Array = values.view(np.int32)[:, _TOP_IDS:]
    told: list[TokenLogprobs | None] = []
    for row, sequence in enumerate(speaking):
        count = sequence.sampling.logprobs
        if count is None:
            told.append(None)
            continue
        top_ids = tuple(token for token in ids[row, :count].tolist() if token >= 0)
        top = tuple(values[row, _TOP : _TOP + len(top_ids)].tolist())
        told.append(TokenLogprobs(float(values[row, 0]), top_ids, top))
    return told
