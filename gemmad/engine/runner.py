"""The eager runner: computes a step at once, with tensors just as large as it needs. For CPUs, and as the twin of the
runner that replays graphs."""

from __future__ import annotations

from collections.abc import Sequence as Many
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from gemmad.engine.flat import FlatStep, banned_ids, flatten, page_rows
from gemmad.engine.recording import RepeatRecorder
from gemmad.engine.scheduler import Chunk, Limits
from gemmad.engine.sequence import Sequence
from gemmad.engine.steering import Steering, told_of
from gemmad.engine.vision import PictureEncoder
from gemmad.generation import TokenLogprobs
from gemmad.kernels.batch import AttentionBatch, SamplingBatch
from gemmad.kernels.ops import Ops
from gemmad.models.gemma3 import Gemma3, StepInputs


class Launched(Protocol):
    """A step that is under way, or done."""

    @property
    def speaking(self) -> Many[Sequence]:
        """Whose next tokens it draws."""

    def drawn(self) -> list[int]:
        """Those tokens; waits for the device."""

    def told(self) -> list[TokenLogprobs | None]:
        """What the network held of each, for those that asked; once the tokens are there."""


class Runner(Protocol):
    """Computes steps, one after the other."""

    def launch(self, chunks: Many[Chunk], previous: Launched | None) -> Launched:
        """Begin a step. `previous` is the one before, whose tokens the sequences may not know yet."""


@dataclass(frozen=True)
class Done:
    """A step whose tokens are known."""

    speaking: Many[Sequence]
    tokens: list[int]
    told_rows: torch.Tensor | None = None

    def drawn(self) -> list[int]:
        """The tokens."""
        return self.tokens

    def told(self) -> list[TokenLogprobs | None]:
        """What the network held of them."""
        return told_of(self.speaking, self.told_rows)


def drawn_for_held(speaking: Many[Sequence], previous: Launched | None) -> dict[Sequence, int]:
    """Tokens of the step before, if one who speaks is held to a grammar: only for that they are waited for."""
    if previous is None or not any(sequence.hold is not None for sequence in speaking):
        return {}
    return dict(zip(previous.speaking, previous.drawn(), strict=True))


class EagerRunner:
    """Keeps nothing between steps but what it is bound to."""

    def __init__(self, model: Gemma3, ops: Ops, limits: Limits, encoder: PictureEncoder | None) -> None:
        self._model = model
        self._ops = ops
        self._limits = limits
        self._encoder = encoder
        self._device = model.device
        self.steering = Steering(model, ops, max_sequences=limits.max_sequences, recorder=RepeatRecorder())

    @torch.inference_mode()
    def launch(self, chunks: Many[Chunk], previous: Launched | None) -> Done:
        """Compute all chunks."""
        flat = flatten(chunks, previous.speaking if previous else (), self._limits, self._encoder)
        if previous is not None:
            drawn = previous.drawn()
            flat.ids = [drawn[feed] if feed >= 0 else token for token, feed in zip(flat.ids, flat.feed, strict=True)]
        logits = self._model.forward(self._inputs(flat, chunks))
        if not flat.speaking:
            return Done((), [])
        sampling = self._sampling(flat.speaking)
        if not any(sequence.is_steered for sequence in flat.speaking):
            return Done(flat.speaking, self._ops.sample(logits, sampling).tolist())
        tell = any(sequence.sampling.logprobs is not None for sequence in flat.speaking)
        self.steering.send(flat.speaking, drawn_for_held(flat.speaking, previous))
        drawn = self.steering.draw(logits, sampling, tell=tell).tolist()
        return Done(flat.speaking, drawn, self.steering.bring_told() if tell else None)

    def _inputs(self, flat: FlatStep, chunks: Many[Chunk]) -> StepInputs:
        starts, contexts = self._tensor(flat.starts, torch.int32), self._tensor(flat.contexts, torch.int32)
        positions, reach = self._tensor(flat.positions), self._tensor(flat.reach)

        def batch(slots: list[int], window: int | None) -> AttentionBatch:
            rows, width = page_rows(chunks, sliding=window is not None)
            return AttentionBatch(
                query_starts=starts,
                context_lens=contexts,
                page_table=self._tensor(rows, torch.int32).flatten(),
                columns=self._tensor([width], torch.int32),
                positions=positions,
                reach=reach,
                slots=self._tensor(slots),
                page_tokens=self._limits.page_tokens,
                window=window,
                longest_query=flat.longest_query,
            )

        return StepInputs(
            token_ids=self._tensor(flat.ids),
            full=batch(flat.full_slots, None),
            sliding=batch(flat.sliding_slots, self._limits.window),
            image_index=self._tensor(flat.image_index),
            images=self._encoder.images if self._encoder is not None and flat.has_images else None,
            output_rows=self._tensor(flat.outputs),
        )

    def _sampling(self, sequences: Many[Sequence]) -> SamplingBatch:
        chosen = [sequence.sampling for sequence in sequences]
        return SamplingBatch(
            temperature=self._tensor([p.temperature for p in chosen], torch.float32),
            top_k=self._tensor([p.top_k for p in chosen]),
            top_p=self._tensor([p.top_p for p in chosen], torch.float32),
            min_p=self._tensor([p.min_p for p in chosen], torch.float32),
            seed=self._tensor([p.seed for p in chosen]),
            position=self._tensor([sequence.length for sequence in sequences]),
            banned_ids=self._tensor([banned_ids(sequence) for sequence in sequences]),
            greedy=all(p.temperature == 0 for p in chosen),
        )

    def _tensor(self, values: Many[Any], dtype: torch.dtype = torch.int64) -> torch.Tensor:
        return torch.tensor(values, dtype=dtype, device=self._device)
