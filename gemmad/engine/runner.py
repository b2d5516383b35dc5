"""From a step's chunks to its drawn tokens: builds the flat batch, runs the network, draws."""

from __future__ import annotations

from collections.abc import Sequence as Many
from dataclasses import dataclass, field
from typing import Any

import torch

from gemmad.engine.scheduler import Chunk, Limits
from gemmad.engine.sequence import Picture, Sequence
from gemmad.engine.vision import PictureEncoder
from gemmad.kernels.batch import AttentionBatch, SamplingBatch
from gemmad.kernels.ops import Ops
from gemmad.models.gemma3 import Gemma3, StepInputs


@dataclass(frozen=True)
class Launched:
    """A step that is under way, or done."""

    speaking: tuple[Sequence, ...]
    """Whose next tokens it draws."""
    drawn: tuple[int, ...]
    """Those tokens."""


@dataclass
class _Flat:
    """A step's tokens, one sequence after the other."""

    ids: list[int] = field(default_factory=list)
    positions: list[int] = field(default_factory=list)
    reach: list[int] = field(default_factory=list)
    starts: list[int] = field(default_factory=lambda: [0])
    outputs: list[int] = field(default_factory=list)
    pictures: list[Picture] = field(default_factory=list)
    picture_rows: list[int] = field(default_factory=list)

    def add(self, chunk: Chunk, unknown: int | None) -> None:
        """Append one chunk's rows; `unknown` is the token that its sequence does not know yet."""
        row = len(self.ids)
        self.ids += chunk.sequence.tokens[chunk.start : chunk.end]
        if len(self.ids) - row < chunk.count:
            assert unknown is not None, "a token is computed before it is drawn"
            self.ids.append(unknown)
        self.positions += range(chunk.start, chunk.end)
        self.reach += range(chunk.start, chunk.end)
        for picture in chunk.sequence.pictures_in(chunk.start, chunk.end):
            rows = range(row + picture.start - chunk.start, row + picture.end - chunk.start)
            self.pictures.append(picture)
            self.picture_rows += rows
            self.reach[rows.start : rows.stop] = [picture.end - 1] * len(rows)
            self.ids[rows.start : rows.stop] = [0] * len(rows)  # the soft token's id may lie outside the embedding
        self.starts.append(len(self.ids))
        if chunk.speaks:
            self.outputs.append(len(self.ids) - 1)


class Runner:
    """Keeps nothing between steps but what it is bound to."""

    def __init__(
        self, model: Gemma3, ops: Ops, limits: Limits, encoder: PictureEncoder | None, *, device: torch.device
    ) -> None:
        self._model = model
        self._ops = ops
        self._limits = limits
        self._encoder = encoder
        self._device = device

    @torch.inference_mode()
    def launch(self, chunks: Many[Chunk], previous: Launched | None) -> Launched:
        """Compute all chunks. `previous` is the step before, whose tokens the sequences may not know yet."""
        speaking = tuple(chunk.sequence for chunk in chunks if chunk.speaks)
        logits = self._model.forward(self._inputs(chunks, previous))
        drawn = self._ops.sample(logits, self._sampling(speaking)).tolist() if speaking else []
        return Launched(speaking, tuple(drawn))

    def _inputs(self, chunks: Many[Chunk], previous: Launched | None) -> StepInputs:
        unknown = dict(zip(map(id, previous.speaking), previous.drawn, strict=True)) if previous else {}
        flat = _Flat()
        for chunk in chunks:
            flat.add(chunk, unknown.get(id(chunk.sequence)))
        starts = self._tensor(flat.starts, torch.int32)
        contexts = self._tensor([chunk.end for chunk in chunks], torch.int32)
        positions, reach = self._tensor(flat.positions), self._tensor(flat.reach)
        full, sliding = (
            AttentionBatch(
                query_starts=starts,
                context_lens=contexts,
                page_table=self._page_table(chunks, sliding=window is not None),
                positions=positions,
                reach=reach,
                slots=self._slots(chunks, sliding=window is not None),
                page_tokens=self._limits.page_tokens,
                window=window,
            )
            for window in (None, self._limits.window)
        )
        return StepInputs(
            token_ids=self._tensor(flat.ids),
            full=full,
            sliding=sliding,
            image_rows=self._tensor(flat.picture_rows),
            image_embeddings=self._embeddings(flat.pictures),
            output_rows=self._tensor(flat.outputs),
        )

    def _page_table(self, chunks: Many[Chunk], *, sliding: bool) -> torch.Tensor:
        """[S, C]: a ring just wide enough that no two live pages of a sequence share a column."""
        held = [chunk.sequence.pages(sliding=sliding) for chunk in chunks]
        width = max((max(pages) - min(pages) + 1 for pages in held if pages), default=1)
        table = torch.zeros(len(chunks), width, dtype=torch.int32)
        for row, pages in enumerate(held):
            columns = torch.tensor([index % width for index in pages], dtype=torch.int64)
            table[row, columns] = torch.tensor(list(pages.values()), dtype=torch.int32)
        return table.to(self._device)

    def _slots(self, chunks: Many[Chunk], *, sliding: bool) -> torch.Tensor:
        page = self._limits.page_tokens
        slots = []
        for chunk in chunks:
            if held := chunk.sequence.pages(sliding=sliding):
                slots += [held[p // page] * page + p % page for p in range(chunk.start, chunk.end)]
        return self._tensor(slots)

    def _embeddings(self, pictures: list[Picture]) -> torch.Tensor:
        if not pictures:
            return torch.empty(0, device=self._device)
        assert self._encoder is not None, "pictures are refused by a text-only engine"
        return torch.cat(self._encoder.rows(pictures))

    def _sampling(self, sequences: Many[Sequence]) -> SamplingBatch:
        chosen = [sequence.sampling for sequence in sequences]
        banned = ((row, sequence.banned_ids()) for row, sequence in enumerate(sequences))
        return SamplingBatch(
            temperature=self._tensor([p.temperature for p in chosen], torch.float32),
            top_k=self._tensor([p.top_k for p in chosen]),
            top_p=self._tensor([p.top_p for p in chosen], torch.float32),
            min_p=self._tensor([p.min_p for p in chosen], torch.float32),
            seed=self._tensor([p.seed for p in chosen]),
            position=self._tensor([sequence.length for sequence in sequences]),
            banned=tuple((row, ids) for row, ids in banned if ids),
            greedy=all(p.temperature == 0 for p in chosen),
        )

    def _tensor(self, values: Many[Any], dtype: torch.dtype = torch.int64) -> torch.Tensor:
        return torch.tensor(values, dtype=dtype, device=self._device)
