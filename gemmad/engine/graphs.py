"""The GPU's runner: every step is one copy in, replayed CUDA graphs, one copy out.

Sizes are rounded up to buckets, each recorded once at warm-up, largest first. A step that only decodes is one graph;
any other is two: a *body* for so many tokens, which leaves the rows that speak in a fixed place, and a *head* for so
many of those; a chunk in the middle of a prompt, which does not speak, reads no head at all. Where an attention backend
wants keys in one piece, long steps of few sequences without images have bodies of their own.

Where somebody who speaks wants more of the logits than a draw (`engine.steering`), the head is another, and a step that
only decodes has a body without one. What is to be known of the step before is then waited for between body and head,
while the body runs.

A step may be launched while the one before is still computed: tokens that are not known here yet are taken on the
device from where that step leaves them (`feed`). Two pinned buffers take turns, so that a step's inputs are not written
while the last one's are still being sent.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence as Many
from dataclasses import dataclass

import torch

from gemmad.engine.flat import MOST_BANNED_IDS, FlatStep, flatten, sliding_ring
from gemmad.engine.recording import Event, Recorder, Work
from gemmad.engine.runner import Launched, drawn_for_held
from gemmad.engine.scheduler import Chunk, Limits
from gemmad.engine.sequence import Sequence
from gemmad.engine.staging import Bucket, Layout, Tables, Writer
from gemmad.engine.steering import Steering, told_of
from gemmad.engine.vision import PictureEncoder
from gemmad.generation import TokenLogprobs
from gemmad.kernels.backends import GATHER_SEQUENCES
from gemmad.kernels.batch import AttentionBatch, SamplingBatch
from gemmad.kernels.ops import Ops
from gemmad.models.gemma3 import Gemma3, StepInputs
from gemmad.planning.step import GATHER_ROWS, ladder, steered_ladder

_TURNS = 2


@dataclass(frozen=True)
class UnderWay:
    """A step on the device."""

    speaking: Many[Sequence]
    event: Event
    tokens: torch.Tensor
    """[S] pinned int64, valid once the event has come, until the step after next."""
    told_rows: torch.Tensor | None
    """The same of `Steering.bring_told`; None where nobody asked."""

    def drawn(self) -> list[int]:
        """Wait for the step, and read its tokens."""
        self.event.synchronize()
        drawn: list[int] = self.tokens[: len(self.speaking)].tolist()
        return drawn

    def told(self) -> list[TokenLogprobs | None]:
        """What the network held of them."""
        return told_of(self.speaking, self.told_rows)


class GraphRunner:
    """Recorded work, and the buffers that it reads and writes."""

    def __init__(
        self,
        model: Gemma3,
        ops: Ops,
        limits: Limits,
        encoder: PictureEncoder | None,
        *,
        max_context: int,
        longest_step: int,
        recorder: Recorder,
        gather_tokens: int = 0,
    ) -> None:
        """`longest_step`: tokens that a step may have at most, an image over the budget included. `gather_tokens`: keys
        that the attention backend of `ops` can be given at once; 0 where there is none."""
        self._model = model
        self._ops = ops
        self._limits = limits
        self._encoder = encoder
        self.steering = Steering(model, ops, max_sequences=limits.max_sequences, recorder=recorder)
        self._recorder = recorder
        self._gather_tokens = gather_tokens
        self._sliding_columns = sliding_ring(limits, longest_step)
        full_columns = max(1, limits.full_pages_for(max_context))
        self._layouts = {
            bucket: Layout(bucket, sliding_columns=self._sliding_columns, full_columns=full_columns)
            for bucket in buckets(limits.max_sequences, longest_step, gathers=gather_tokens > 0)
        }
        self._head_sizes = {False: ladder(1, limits.max_sequences), True: steered_ladder(limits.max_sequences)}
        """Without and with steering."""
        size = max(layout.nbytes for layout in self._layouts.values())
        self._inputs = torch.zeros(size, dtype=torch.uint8, device=model.device)
        self._drawn = torch.zeros(limits.max_sequences, dtype=torch.int64, device=model.device)
        self._rows = torch.zeros(limits.max_sequences, model.hidden_size, dtype=model.dtype, device=model.device)
        """[S, hidden]: what a body leaves for the head."""
        self._pinned = [recorder.host_buffer(size, torch.uint8) for _ in range(_TURNS)]
        self._writers = [Writer(buffer, list(self._layouts.values())) for buffer in self._pinned]
        self._heard = [recorder.host_buffer(limits.max_sequences, torch.int64) for _ in range(_TURNS)]
        self._events = [recorder.event() for _ in range(_TURNS)]
        self._turn = 0
        self._bodies: dict[Bucket, Work] = {}
        self._heads: dict[tuple[int, bool], Work] = {}

    @property
    def graphs(self) -> int:
        """How many pieces of work are recorded."""
        return len(self._layouts) + sum(map(len, self._head_sizes.values()))

    @torch.inference_mode()
    def capture(self, progress: Callable[[float], None]) -> None:
        """Record everything, largest first: what the largest needs, the others share.

        Each is run before, so that its kernels are compiled and loaded; of the network one layer of each kind does.
        """
        done = 0
        for bucket in sorted(self._layouts, key=lambda bucket: (bucket.rows, bucket.sequences), reverse=True):
            progress(done / self.graphs)
            self._send(bucket, FlatStep(), ([], []), turn=0)
            self._body(bucket, only=self._model.sample_layers)
            self._bodies[bucket] = self._recorder.record(lambda bucket=bucket: self._body(bucket))  # type: ignore[misc]
            done += 1
        heads = [(count, steered) for steered, counts in self._head_sizes.items() for count in counts]
        for size in sorted(heads, reverse=True):
            progress(done / self.graphs)
            self._head(*size)
            self._heads[size] = self._recorder.record(lambda size=size: self._head(*size))  # type: ignore[misc]
            done += 1
        self._recorder.settle()
        progress(1.0)

    @torch.inference_mode()
    def launch(self, chunks: Many[Chunk], previous: Launched | None) -> UnderWay:
        """Begin a step; returns at once."""
        flat = flatten(chunks, previous.speaking if previous else (), self._limits, self._encoder)
        self._turn = (self._turn + 1) % _TURNS
        steered = any(sequence.is_steered for sequence in flat.speaking)
        bucket = self._bucket(flat, steered=steered)
        full = [chunk.sequence.full_pages for chunk in chunks]
        self._send(bucket, flat, (full, self._rings(chunks)), turn=self._turn)
        self._bodies[bucket]()
        if steered:
            self.steering.send(flat.speaking, drawn_for_held(flat.speaking, previous))
        if flat.speaking and not bucket.draws:
            count = next(size for size in self._head_sizes[steered] if size >= len(flat.speaking))
            self._heads[count, steered]()
        tokens, event = self._heard[self._turn], self._events[self._turn]
        tokens.copy_(self._drawn, non_blocking=True)
        tells = steered and any(sequence.sampling.logprobs is not None for sequence in flat.speaking)
        told = self.steering.bring_told() if tells else None
        event.record()
        return UnderWay(tuple(flat.speaking), event, tokens, told)

    def _bucket(self, flat: FlatStep, *, steered: bool) -> Bucket:
        rows, sequences = len(flat.ids), len(flat.contexts)
        decode = flat.longest_query == 1 and not flat.has_images  # pages may hold all of an image but its last token
        gathers = not flat.has_images and sequences <= GATHER_SEQUENCES and sum(flat.contexts) <= self._gather_tokens
        fitting = (
            bucket
            for bucket in self._layouts
            if bucket.rows >= rows
            and bucket.sequences >= sequences
            and (decode or not bucket.decode)
            and bucket.headless == (steered and bucket.decode)
            and (gathers or not bucket.gathered)
        )
        return min(fitting, key=lambda bucket: (bucket.rows, not bucket.decode, not bucket.gathered))

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

    # --- what is recorded -------------------------------------------------------------------------------------------

    def _body(self, bucket: Bucket, *, only: tuple[int, ...] | None = None) -> None:
        """Tokens of the last step taken in, then the network; and the draw, where there is no head for it."""
        fields = self._layouts[bucket].views(self._inputs)
        rows = self._model.hidden(self._step(bucket, fields), only=only)
        if bucket.draws:
            self._draw(rows, fields, steered=False)
        else:
            self._rows.copy_(rows)

    def _head(self, count: int, steered: bool) -> None:
        """The draw for the first `count` of the rows that a body left."""
        self._draw(self._rows[:count], self._headless_layout().views(self._inputs), steered=steered)

    def _headless_layout(self) -> Layout:
        """Any: in all of them what is said about sequences lies at the same place."""
        return next(layout for bucket, layout in self._layouts.items() if not bucket.draws)

    def _draw(self, rows: torch.Tensor, fields: dict[str, torch.Tensor], *, steered: bool) -> None:
        count = len(rows)
        draw = self.steering.draw if steered else self._ops.sample
        self._drawn[:count] = draw(self._model.logits(rows), _sampling(count, fields))

    def _step(self, bucket: Bucket, fields: dict[str, torch.Tensor]) -> StepInputs:
        feed = fields["feed"].long()
        token_ids = torch.where(feed >= 0, self._drawn[feed.clamp_min(0)], fields["token_ids"].long())
        attended = min(bucket.sequences, bucket.rows if bucket.decode else bucket.sequences)
        attended = min(attended, GATHER_SEQUENCES) if bucket.gathered else attended

        def batch(kind: str, window: int | None) -> AttentionBatch:
            return AttentionBatch(
                query_starts=fields["query_starts"][: attended + 1],
                context_lens=fields["context_lens"][:attended],
                page_table=fields[f"{kind}_table"],
                columns=fields[f"{kind}_width"],
                positions=fields["positions"],
                reach=fields["reach"],
                slots=fields[f"{kind}_slots"],
                page_tokens=self._limits.page_tokens,
                window=window,
                longest_query=1 if bucket.decode else bucket.rows,
                gather_tokens=self._gather_tokens if bucket.gathered else None,
            )

        return StepInputs(
            token_ids=token_ids,
            full=batch("full", None),
            sliding=batch("sliding", self._limits.window),
            image_index=fields["image_index"].long(),
            images=None if bucket.decode or self._encoder is None else self._encoder.images,
            output_rows=fields["output_rows"].long(),
        )


def _sampling(count: int, fields: dict[str, torch.Tensor]) -> SamplingBatch:
    return SamplingBatch(
        temperature=fields["temperature"][:count],
        top_k=fields["top_k"][:count].long(),
        top_p=fields["top_p"][:count],
        min_p=fields["min_p"][:count],
        seed=fields["seed"][:count],
        position=fields["position"][:count].long(),
        banned_ids=fields["banned_ids"][: count * MOST_BANNED_IDS].long().view(count, MOST_BANNED_IDS),
    )


def buckets(max_sequences: int, longest_step: int, *, gathers: bool = False) -> list[Bucket]:
    """Sizes that are recorded: steps that only decode, by sequences; and all others, by tokens."""
    counts = ladder(1, max_sequences)
    lengths = ladder(16, longest_step, halves_from=256)
    gathered = [n for n in lengths if gathers and n >= GATHER_ROWS]
    return (
        [Bucket(n, n, True) for n in counts]
        + [Bucket(n, max_sequences, True, headless=True) for n in steered_ladder(max_sequences)]
        + [Bucket(n, max_sequences, False) for n in lengths]
        + [Bucket(n, max_sequences, False, gathered=True) for n in gathered]
    )
