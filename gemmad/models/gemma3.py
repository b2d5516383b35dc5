"""Gemma 3's language network, written for the runner: flat tokens in, hidden rows out, keys and values into pages.

The network is Google's (https://arxiv.org/abs/2503.19786); transformers' `modeling_gemma3` is the oracle of its tests.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from gemmad.kernels.batch import AttentionBatch
from gemmad.kernels.matrices import Matrix
from gemmad.kernels.ops import Ops
from gemmad.kernels.pages import Pages
from gemmad.models.config import RopeConfig, TextShape
from gemmad.models.weights import LayerWeights, Weights


@dataclass(frozen=True)
class KVPools:
    """Each layer's pages, by kind."""

    full: tuple[Pages, ...]
    sliding: tuple[Pages, ...]


@dataclass(frozen=True)
class StepInputs:
    """One step's flat batch of T tokens."""

    token_ids: torch.Tensor
    """[T] int64; an image's soft tokens may be any ids of the vocabulary."""
    full: AttentionBatch
    sliding: AttentionBatch
    image_index: torch.Tensor
    """[T] int64: the row of `images` that is this token's embedding; -1 for text."""
    images: torch.Tensor | None
    """[N, hidden]; None in a step without images."""
    output_rows: torch.Tensor
    """[R] int64: rows whose next token is wanted."""


class Gemma3:
    """Weights and pools bound to a set of kernels. Holds no state of a request."""

    def __init__(self, shape: TextShape, weights: Weights, pools: KVPools, ops: Ops) -> None:
        self._shape = shape
        self._weights = weights
        self._ops = ops
        device = weights.device
        self._frequencies = {
            full: _inverse_frequencies(rope, shape.head_dim).to(device)
            for full, rope in ((True, shape.full_rope), (False, shape.sliding_rope))
        }
        full_pages, sliding_pages = iter(pools.full), iter(pools.sliding)
        self._pages = [next(full_pages if full else sliding_pages) for full in shape.full_layers]
        # Rounded to the weights' dtype, as the model was trained (transformers PR 29402).
        self._embedding_scale = torch.tensor(shape.hidden_size**0.5, dtype=weights.dtype, device=device)

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return self._weights.device

    @property
    def dtype(self) -> torch.dtype:
        """What it computes in."""
        return self._weights.dtype

    @property
    def hidden_size(self) -> int:
        """Numbers of a row between layers."""
        return self._shape.hidden_size

    @property
    def vocab_size(self) -> int:
        """Numbers of a row behind the head."""
        return self._shape.vocab_size

    @property
    def sample_layers(self) -> tuple[int, ...]:
        """One layer of each kind, by what it sees and how each of its matrices is kept: who runs these has run every
        kernel of the network."""
        kinds = [
            (full, *(_layout(matrix) for matrix in (layer.qkv, layer.o, layer.gate_up, layer.down)))
            for full, layer in zip(self._shape.full_layers, self._weights.layers, strict=True)
        ]
        return tuple(sorted({kinds.index(kind) for kind in kinds}))

    def forward(self, step: StepInputs) -> torch.Tensor:
        """Run all layers; returns what `logits` does for `output_rows`."""
        return self.logits(self.hidden(step))

    @torch.inference_mode()
    def hidden(self, step: StepInputs, *, only: tuple[int, ...] | None = None) -> torch.Tensor:
        """Run all layers, or `only` some; returns the rows [R, hidden] that the head turns into logits."""
        ops, eps, layers = self._ops, self._shape.norm_eps, self._weights.layers
        shared = {full: self._share(full, step) for full in set(self._shape.full_layers)}
        residual = self._embed(step)
        hidden = ops.rms_norm(residual, layers[0].input_norm, eps)
        for index in range(len(layers)) if only is None else only:
            layer = layers[index]
            mixed = self._attend(hidden, layer, index, shared[self._shape.full_layers[index]])
            hidden, residual = ops.linear_add_norm(
                mixed,
                layer.o,
                residual=residual,
                post_weight=layer.post_attention_norm,
                next_weight=layer.pre_feedforward_norm,
                eps=eps,
            )
            following = layers[index + 1].input_norm if index + 1 < len(layers) else self._weights.final_norm
            hidden, residual = ops.linear_add_norm(
                ops.gate_up_gelu(hidden, layer.gate_up),
                layer.down,
                residual=residual,
                post_weight=layer.post_feedforward_norm,
                next_weight=following,
                eps=eps,
            )
        return hidden[step.output_rows]

    @torch.inference_mode()
    def logits(self, rows: torch.Tensor) -> torch.Tensor:
        """The head: rows [R, hidden] → [R, vocab], in the weights' dtype, or float32 where the model caps them."""
        logits = self._ops.linear(rows, self._weights.embedding)
        cap = self._shape.logit_softcap
        return logits if cap is None else cap * torch.tanh(logits.float() / cap)

    def _share(self, full: bool, step: StepInputs) -> _Shared:
        batch = step.full if full else step.sliding
        rope = self._ops.rope_tables(batch.positions, self._frequencies[full], 1.0)
        return _Shared(batch, rope, self._ops.prepare_attention(batch))

    def _embed(self, step: StepInputs) -> torch.Tensor:
        rows = self._ops.embed(self._weights.embedding, step.token_ids, self._embedding_scale)
        if step.images is None:
            return rows
        seen = step.images[step.image_index.clamp_min(0)]
        return torch.where(step.image_index[:, None] >= 0, seen, rows)

    def _attend(self, hidden: torch.Tensor, layer: LayerWeights, index: int, shared: _Shared) -> torch.Tensor:
        pages = self._pages[index]
        q = self._ops.rotate_and_store(
            self._ops.linear(hidden, layer.qkv),
            layer.q_norm,
            layer.k_norm,
            shared.rope,
            shared.batch.slots,
            pages,
            self._shape.norm_eps,
        )
        mixed = self._ops.attention(q, pages, shared.prepared, scale=self._shape.attention_scale)
        return mixed.flatten(1)


@dataclass(frozen=True)
class _Shared:
    """What all layers of one kind have in common in one step."""

    batch: AttentionBatch
    rope: torch.Tensor
    prepared: object


def _layout(matrix: Matrix) -> tuple[object, ...]:
    return () if isinstance(matrix, torch.Tensor) else matrix.layout


def _inverse_frequencies(rope: RopeConfig, head_dim: int) -> torch.Tensor:
    """`theta^(-2i/D) / factor` for i in [0, D/2), float32."""
    exponents = torch.arange(0, head_dim, 2, dtype=torch.float32) / head_dim
    return 1.0 / rope.theta**exponents / rope.factor
