"""The engine's network over pages of its own, without scheduler or graphs: to look at logits."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from gemmad.kernels.batch import AttentionBatch
from gemmad.kernels.ops import ops_for
from gemmad.models.config import TextShape
from gemmad.models.gemma3 import Gemma3, KVPools, StepInputs
from gemmad.models.weights import Weights

_PAGE = 16


class PagedNetwork:
    """Computes a fixed number of sequences side by side, each up to `longest` tokens."""

    def __init__(self, shape: TextShape, weights: Weights, *, sequences: int, longest: int) -> None:
        self._window = shape.window
        self._columns = -(-longest // _PAGE)
        self._device = weights.embedding.device
        size = (sequences * self._columns, _PAGE, shape.kv_heads, shape.head_dim)

        def layer() -> tuple[torch.Tensor, torch.Tensor]:
            keys, values = (weights.embedding.new_zeros(size) for _ in range(2))
            return keys, values

        pools = KVPools(
            full=tuple(layer() for full in shape.full_layers if full),
            sliding=tuple(layer() for full in shape.full_layers if not full),
        )
        self._network = Gemma3(shape, weights, pools, ops_for(self._device))

    def logits(self, tokens: Sequence[Sequence[int]], starts: Sequence[int], rows: Sequence[int]) -> torch.Tensor:
        """Compute `tokens[s]` at positions from `starts[s]` on, for all sequences in one step.

        Returns [rows, vocab] float32; `rows` count through all sequences' tokens, laid end to end.
        """
        counts = [len(some) for some in tokens]
        position = [p for start, count in zip(starts, counts, strict=True) for p in range(start, start + count)]
        first = [s * self._columns * _PAGE for s, count in enumerate(counts) for _ in range(count)]
        positions = self._tensor(position)
        slots = self._tensor([begin + p for begin, p in zip(first, position, strict=True)])
        query_starts = self._tensor([sum(counts[:s]) for s in range(len(counts) + 1)], torch.int32)
        contexts = self._tensor([a + b for a, b in zip(starts, counts, strict=True)], torch.int32)
        table = torch.arange(len(counts) * self._columns, dtype=torch.int32, device=self._device)

        def batch(window: int | None) -> AttentionBatch:
            return AttentionBatch(
                query_starts=query_starts,
                context_lens=contexts,
                page_table=table,
                columns=self._tensor([self._columns], torch.int32),
                positions=positions,
                reach=positions,
                slots=slots,
                page_tokens=_PAGE,
                window=window,
                longest_query=max(counts),
            )

        step = StepInputs(
            token_ids=self._tensor([token for some in tokens for token in some]),
            full=batch(None),
            sliding=batch(self._window),
            image_index=torch.full_like(positions, -1),
            images=None,
            output_rows=self._tensor(rows),
        )
        return self._network.forward(step)

    def _tensor(self, values: Sequence[int], dtype: torch.dtype = torch.int64) -> torch.Tensor:
        return torch.tensor(values, dtype=dtype, device=self._device)
