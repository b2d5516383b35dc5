"""The engine's network over pages of its own, without scheduler or graphs: to look at logits."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from gemmad.engine.memory import allocate_pools
from gemmad.generation import AttentionBackend, KVFormat
from gemmad.kernels.backends import GATHER_SEQUENCES, allocate_scratch, find_backend, gather_capacity
from gemmad.kernels.batch import AttentionBatch
from gemmad.kernels.ops import Ops, ops_for
from gemmad.kernels.pages import page_type
from gemmad.models.config import TextShape
from gemmad.models.gemma3 import Gemma3, StepInputs
from gemmad.models.weights import Weights
from gemmad.planning.pages import PagePlan

_PAGE = 16


class PagedNetwork:
    """Computes up to `sequences` sequences side by side, each in a seat of its own and up to `longest` tokens."""

    def __init__(
        self,
        shape: TextShape,
        weights: Weights,
        *,
        sequences: int,
        longest: int,
        page_tokens: int = _PAGE,
        kv: KVFormat = "bf16",
        attention: AttentionBackend = "triton",
    ) -> None:
        """`kv`: what keys and values are kept in. `attention`: who computes that of long prompts on a GPU."""
        self._window = shape.window
        self._page = page_tokens
        self._columns = -(-longest // page_tokens)
        self._device = weights.device
        pages = sequences * self._columns
        self._pools = allocate_pools(
            shape,
            PagePlan(pages, pages, full_page_bytes=0, sliding_page_bytes=0),
            page_tokens=page_tokens,
            device=self._device,
            dtype=page_type(kv, weights.dtype),
        )
        self._slots = pages * page_tokens
        self._gathered_tokens = 0
        ops = self._ops(shape, weights, attention, tokens=gather_capacity(sequences, longest))
        self._network = Gemma3(shape, weights, self._pools, ops)

    @property
    def kv_bytes_per_token(self) -> int:
        """Of all layers, as long as none of them has let a token go."""
        layers = (*self._pools.full, *self._pools.sliding)
        return sum(layer.nbytes for layer in layers) // self._slots

    def hidden(
        self,
        tokens: Sequence[Sequence[int]],
        starts: Sequence[int],
        rows: Sequence[int],
        *,
        seats: Sequence[int] | None = None,
    ) -> torch.Tensor:
        """Compute `tokens[s]` at positions from `starts[s]` on, of the sequence in `seats[s]`, all in one step.

        Without `seats` sequence s has seat s. Returns [rows, hidden], what `head` takes; `rows` count through all
        sequences' tokens, laid end to end.
        """
        seats = range(len(tokens)) if seats is None else seats
        counts = [len(some) for some in tokens]
        position = [p for start, count in zip(starts, counts, strict=True) for p in range(start, start + count)]
        room = self._columns * self._page
        first = [seat * room for seat, count in zip(seats, counts, strict=True) for _ in range(count)]
        positions = self._tensor(position)
        slots = self._tensor([begin + p for begin, p in zip(first, position, strict=True)])
        query_starts = self._tensor([sum(counts[:s]) for s in range(len(counts) + 1)], torch.int32)
        ends = [start + count for start, count in zip(starts, counts, strict=True)]
        contexts = self._tensor(ends, torch.int32)
        pages = [seat * self._columns + column for seat in seats for column in range(self._columns)]
        table = self._tensor(pages, torch.int32)
        gathers = len(counts) <= GATHER_SEQUENCES and sum(ends) <= self._gathered_tokens

        def batch(window: int | None) -> AttentionBatch:
            return AttentionBatch(
                query_starts=query_starts,
                context_lens=contexts,
                page_table=table,
                columns=self._tensor([self._columns], torch.int32),
                positions=positions,
                reach=positions,
                slots=slots,
                page_tokens=self._page,
                window=window,
                longest_query=max(counts),
                gather_tokens=sum(ends) if gathers else None,
            )

        step = StepInputs(
            token_ids=self._tensor([token for some in tokens for token in some]),
            full=batch(None),
            sliding=batch(self._window),
            image_index=torch.full_like(positions, -1),
            images=None,
            output_rows=self._tensor(rows),
        )
        return self._network.hidden(step)

    def head(self, rows: torch.Tensor) -> torch.Tensor:
        """[rows, hidden] → [rows, vocab], as the network gives logits."""
        return self._network.logits(rows)

    def logits(self, tokens: Sequence[Sequence[int]], starts: Sequence[int], rows: Sequence[int]) -> torch.Tensor:
        """Both in one."""
        return self.head(self.hidden(tokens, starts, rows))

    def _ops(self, shape: TextShape, weights: Weights, attention: AttentionBackend, *, tokens: int) -> Ops:
        backend = find_backend(attention, self._device)
        if backend is None:
            return ops_for(self._device)
        self._gathered_tokens = tokens
        scratch = allocate_scratch(
            tokens,
            kv_heads=shape.kv_heads,
            head_dim=shape.head_dim,
            dtype=weights.dtype,
            device=self._device,
        )
        return ops_for(self._device, backend=backend, scratch=scratch)

    def _tensor(self, values: Sequence[int], dtype: torch.dtype = torch.int64) -> torch.Tensor:
        return torch.tensor(values, dtype=dtype, device=self._device)
