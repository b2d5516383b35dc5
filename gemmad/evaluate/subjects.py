"""The network in one format of weights after the other, and the text that it is given."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from gemmad.bench.sizes import sizes_for
from gemmad.bench.subject import Subject
from gemmad.bench.wanted import Wanted as BenchWanted
from gemmad.errors import CheckpointError, ConfigError
from gemmad.evaluate.texts import encode, in_replies, made_up, read_texts
from gemmad.evaluate.wanted import Wanted
from gemmad.evaluate.windows import Window, cut
from gemmad.generation import WeightFormat
from gemmad.models.formats.opening import open_coded
from gemmad.models.weights import Weights, load_weights, random_weights
from gemmad.text.checkpoint import TextModel

_RANDOM_DEVIATION = 0.02
"""Of `random_weights`' matrices."""
_SOFTENED = 1 / 8
_LOGIT_DEVIATION = 4.0
_BOS_ID = 2
"""Gemma's, where there is no tokenizer to ask."""

Share = Callable[[float], None]


class Subjects:
    """A checkpoint, or a shape whose weights are made up, to be had in every format."""

    def __init__(self, wanted: Wanted, folder: Path, *, device: torch.device) -> None:
        """`folder` is empty and ours until the run ends. Raises CheckpointError for a model that cannot be had."""
        bench = BenchWanted(model=wanted.model, random_weights=wanted.random_weights, layers=wanted.layers)
        subject = Subject(bench, folder, device=device, sizes=sizes_for(device.type, quick=True))
        self._subject = subject
        self.name = subject.name
        self.dtype = subject.dtype
        self.text = subject.config.text
        if wanted.context > self.text.max_context:
            raise CheckpointError(f"{wanted.context} tokens are more than the context of {self.text.max_context}")

    @property
    def comes_coded(self) -> bool:
        """Whether the checkpoint's files hold codes."""
        subject = self._subject
        return subject.random is None and open_coded(subject.folder, subject.config) is not None

    def weights(self, kept: WeightFormat, *, progress: Share) -> Weights:
        """Load or make up the language model; the vision tower stays on the disk."""
        config = dataclasses.replace(self._subject.config, vision=None)
        device = self._subject.device
        if self._subject.random is None:
            return load_weights(config, device=device, dtype=self.dtype, format=kept, progress=progress)
        return settle(random_weights(config, device=device, dtype=self.dtype, format=kept))

    def windows(self, wanted: Wanted) -> tuple[tuple[Window, ...], dict[str, Any]]:
        """The text, cut; and what is to be told of it. Raises ConfigError for a file that cannot be read."""
        facts: dict[str, Any] = {}
        counted = None
        if self._subject.random is not None:
            bos_id, ids = _BOS_ID, made_up(self.text.vocab_size, tokens=wanted.tokens)
        else:
            model, text = TextModel.load(self._subject.folder), read_texts(map(Path, wanted.texts))
            bos_id, ids = model.bos_id, encode(model, text)
            counted = in_replies(model, ids) if wanted.replies else None
            facts |= {"texts": list(wanted.texts), "text_sha256": hashlib.sha256(text.encode()).hexdigest()}
        if max(ids, default=0) >= self.text.vocab_size:
            raise ConfigError("the text holds a token that the network has no row for")
        stride = wanted.stride or wanted.context
        windows = cut(ids[: wanted.tokens], context=wanted.context, stride=stride, bos_id=bos_id, counted=counted)
        scored = sum(len(window.scored) for window in windows)
        return windows, facts | {
            "text_tokens": len(ids),
            "context": wanted.context,
            "stride": stride,
            "windows": len(windows),
            "scored_tokens": scored,
            "replies": wanted.replies,
        }


def settle(weights: Weights) -> Weights:
    """Give a network of random weights distributions as a language model's are, in place.

    As `random_weights` leaves it, a network of few layers says with certainty the token that it has just read: its
    row's part in the last hidden state is multiplied by the same row in the head, and no error of the layers would
    show. So the embedding is made so small that the layers drown it, and the last norm so large that logits have a
    standard deviation of 4, `norm · σ · √hidden`: with normal logits the entropy is near ln V - σ²/2, of Gemma's
    262208 tokens 4.5 nats. Scales of codes carry the factor, a power of two, so the codes stay what they were.
    """
    embedding = weights.embedding
    (embedding if isinstance(embedding, torch.Tensor) else embedding.scales).mul_(_SOFTENED)
    hidden = weights.final_norm.shape[0]
    weights.final_norm.fill_(_LOGIT_DEVIATION / (_RANDOM_DEVIATION * _SOFTENED * hidden**0.5))
    return weights
