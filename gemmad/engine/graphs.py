"""The GPU's runner: every step is one copy in, one CUDA graph, one copy out.

Sizes are rounded up to buckets, each captured once at warm-up, largest first, all in one memory pool. A step may be
launched while the one before is still computed: tokens that are not known here yet are taken on the device from where
that step leaves them (`feed`). Two pinned buffers take turns, so that a step's inputs are not written while the last
one's are still being sent.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence as Many
from dataclasses import dataclass

import torch

from gemmad.engine.flat import MOST_BANNED_IDS, FlatStep, flatten, sliding_ring
from gemmad.engine.runner import Launched
from gemmad.engine.scheduler import Chunk, Limits
from gemmad.engine.sequence import Sequence
from gemmad.engine.staging import Bucket, Layout, Tables, Writer
from gemmad.engine.vision import PictureEncoder
from gemmad.kernels.batch import AttentionBatch, SamplingBatch
from gemmad.kernels.ops import Ops
from gemmad.models.gemma3 import Gemma3, StepInputs

_TURNS = 2


@dataclass(frozen=True)
class UnderWay:
    """A step on the device."""

    speaking: Many[Sequence]
    event: torch.cuda.Event
    tokens: torch.Tensor
    """[S] pinned int64, valid once the event has come, until the step after next."""

    def drawn(self) -> list[int]:
        """Wait for the step, and read its tokens."""
        self.event.synchronize()
        drawn: list[int] = self.tokens[: len(self.speaking)].tolist()
        return drawn


class GraphRunner:
    """Captured graphs, and the buffers that they read and write."""

    def __init__(
        self,
        model: Gemma3,
        ops: Ops,
        limits: Limits,
        encoder: PictureEncoder | None,
        *,
        device: torch.device,
        max_context: int,
        longest_step: int,
    ) -> None:
        """`longest_step`: tokens that a step may have at most, an image over the budget included."""
        self._model = model
        self._ops = ops
        self._limits = limits
        self._encoder = encoder
        self._device = device
        self._sliding_columns = sliding_ring(limits, longest_step)
        full_columns = max(1, limits.full_pages_for(max_context))
        self._layouts = {
            bucket: Layout(bucket, sliding_columns=self._sliding_columns, full_columns=full_columns)
            for bucket in buckets(limits.max_sequences, longest_step)
        }
        size = max(layout.nbytes for layout in self._layouts.values())
        self._inputs = torch.zeros(size, dtype=torch.uint8, device=device)
        self._drawn = torch.zeros(limits.max_sequences, dtype=torch.int64, device=device)
        pinned = [torch.zeros(size, dtype=torch.uint8, pin_memory=True) for _ in range(_TURNS)]
        self._pinned = pinned
        self._writers = [Writer(buffer, list(self._layouts.values())) for buffer in pinned]
        self._heard = [torch.zeros(limits.max_sequences, dtype=torch.int64, pin_memory=True) for _ in range(_TURNS)]
        self._events = [torch.cuda.Event() for _ in range(_TURNS)]  # type: ignore[no-untyped-call]
        self._turn = 0
        self._graphs: dict[Bucket, torch.cuda.CUDAGraph] = {}

    @torch.inference_mode()
    def capture(self, progress: Callable[[float], None]) -> None:
        """Compile and capture every bucket, largest first: what the largest needs, the others share."""
        pool = torch.cuda.graph_pool_handle()
        order = sorted(self._layouts, key=lambda bucket: (bucket.rows, bucket.sequences), reverse=True)
        for done, bucket in enumerate(order):
            progress(done / len(order))
            self._send(bucket, FlatStep(), ([], []), turn=0)
            self._compute(bucket)
            torch.cuda.synchronize(self._device)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, pool=pool, capture_error_mode="thread_local"):
                self._compute(bucket)
            self._graphs[bucket] = graph

    @torch.inference_mode()
    def launch(self, chunks: Many[Chunk], previous: Launched | None) -> UnderWay:
        """Begin a step; returns at once."""
        flat = flatten(chunks, previous.speaking if previous else (), self._limits, self._encoder)
        self._turn = (self._turn + 1) % _TURNS
        bucket = self._bucket(flat)
        full = [chunk.sequence.full_pages for chunk in chunks]
        self._send(bucket, flat, (full, self._rings(chunks)), turn=self._turn)
        self._graphs[bucket].replay()
        tokens, event = self._heard[self._turn], self._events[self._turn]
        tokens.copy_(self._drawn, non_blocking=True)
        event.record()
        return UnderWay(tuple(flat.speaking), event, tokens)

    def _bucket(self, flat: FlatStep) -> Bucket:
        rows, sequences, decode = len(flat.ids), len(flat.contexts), flat.longest_query == 1
        fitting = (b for b in self._layouts if b.rows >= rows and b.sequences >= sequences and (decode or not b.decode))
        return min(fitting, key=lambda bucket: (bucket.rows, not bucket.decode))

    def _rings(self, chunks: Many[Chunk]) -> list[list[int]]:
        rows = []
        for chunk in chunks:
            row = [0] * self._sliding_columns
            for index, page in chunk.sequence.sliding_pages.items():
                row[index % self._sliding_columns] = page
            rows.append(row)
        return rows

    def _send(self, bucket: Bucket, flat: FlatStep, tables: Tables, *, turn: int) -> None:
        count = self._writers[turn].write(bucket, flat, tables)
        self._inputs[:count].copy_(self._pinned[turn][:count], non_blocking=True)

    def _compute(self, bucket: Bucket) -> None:
        """What a graph holds: tokens of the last step taken in, the network, the draw."""
        fields = self._layouts[bucket].views(self._inputs)
        logits = self._model.forward(self._step(bucket, fields))
        self._drawn[: bucket.sequences] = self._ops.sample(logits, _sampling(bucket, fields))

    def _step(self, bucket: Bucket, fields: dict[str, torch.Tensor]) -> StepInputs:
        feed = fields["feed"].long()
        token_ids = torch.where(feed >= 0, self._drawn[feed.clamp_min(0)], fields["token_ids"].long())

        def batch(kind: str, window: int | None) -> AttentionBatch:
            return AttentionBatch(
                query_starts=fields["query_starts"],
                context_lens=fields["context_lens"],
                page_table=fields[f"{kind}_table"],
                columns=fields[f"{kind}_width"],
                positions=fields["positions"],
                reach=fields["reach"],
                slots=fields[f"{kind}_slots"],
                page_tokens=self._limits.page_tokens,
                window=window,
                longest_query=1 if bucket.decode else bucket.rows,
            )

        return StepInputs(
            token_ids=token_ids,
            full=batch("full", None),
            sliding=batch("sliding", self._limits.window),
            image_index=fields["image_index"].long(),
            images=None if bucket.decode or self._encoder is None else self._encoder.images,
            output_rows=fields["output_rows"].long(),
        )


def _sampling(bucket: Bucket, fields: dict[str, torch.Tensor]) -> SamplingBatch:
    return SamplingBatch(
        temperature=fields["temperature"],
        top_k=fields["top_k"].long(),
        top_p=fields["top_p"],
        min_p=fields["min_p"],
        seed=fields["seed"],
        position=fields["position"].long(),
        banned_ids=fields["banned_ids"].long().view(bucket.sequences, MOST_BANNED_IDS),
    )


def buckets(max_sequences: int, longest_step: int) -> list[Bucket]:
    """Sizes that are captured: steps that only decode, by sequences; and all others, by tokens."""
    counts = _ladder(1, max_sequences)
    lengths = _ladder(16, longest_step, halves_from=256)
    return [Bucket(n, n, True) for n in counts] + [Bucket(n, max_sequences, False) for n in lengths]


def _ladder(first: int, last: int, *, halves_from: int = 32) -> list[int]:
    """Powers of two from `first`, with the steps half way between from `halves_from` on, and `last` at the end."""
    steps, size = set(), first
    while size < last:
        steps.add(size)
        if size >= halves_from and size * 3 // 2 < last:
            steps.add(size * 3 // 2)
        size *= 2
    return sorted(steps | {last})
