"""The physical floor: the time that a device needs at least, by what it must read and what it must multiply.

The roofline model (Williams, Waterman, Patterson, CACM 2009) over two rates that were measured on the same device in
the same run. Counted is what no implementation of this network can avoid, at the sizes that its config tells:

- a step reads every weight once (the embedding as the head; the few rows that are looked up are nothing), and the keys
  and values that its tokens see: all of them on full layers, the window's on sliding ones;
- each token costs two FLOP for each weight of its layers, and for each position that it sees two products over the
  heads' sizes; the head is computed for tokens that speak.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gemmad.models.config import TextShape, VisionShape


@dataclass(frozen=True)
class Work:
    """What some computation needs at least."""

    nbytes: float
    flop: float

    def __add__(self, other: Work) -> Work:
        return Work(self.nbytes + other.nbytes, self.flop + other.flop)

    def __mul__(self, times: float) -> Work:
        return Work(self.nbytes * times, self.flop * times)


@dataclass(frozen=True)
class Roof:
    """Measured rates of a device."""

    bytes_per_second: float
    """Of a copy, counting what is read and what is written."""
    flop_per_second: float

    def seconds(self, work: Work) -> float:
        """The least time: reading and multiplying may go on together."""
        return max(work.nbytes / self.bytes_per_second, work.flop / self.flop_per_second)

    def bound_by_memory(self, work: Work) -> bool:
        """Whether reading is what takes longest."""
        return work.nbytes / self.bytes_per_second >= work.flop / self.flop_per_second


@dataclass(frozen=True)
class Cost:
    """Counts the work of one network."""

    shape: TextShape
    itemsize: int
    """Bytes of a number, wherever it is not coded."""
    coded_bytes: int | None = None
    """Of all layers' matrices and the head, where they are coded."""
    kv_coded: bool = False
    """Whether keys and values are codes of a byte, with a float32 for each head's."""

    @property
    def layer_weights(self) -> int:
        """Entries of all layers' matrices."""
        s = self.shape
        one = s.hidden_size * (s.qkv_size + s.heads * s.head_dim + 3 * s.intermediate_size)
        return one * len(s.full_layers)

    @property
    def head_weights(self) -> int:
        """Entries of the head."""
        return self.shape.vocab_size * self.shape.hidden_size

    @property
    def weight_bytes(self) -> int:
        """Read in each step that draws a token. Norms are left out: a thousandth of a thousandth."""
        if self.coded_bytes is not None:
            return self.coded_bytes
        return (self.layer_weights + self.head_weights) * self.itemsize

    def decode(self, batch: int, context: float) -> Work:
        """One step in which `batch` sequences, each of so many tokens with the new one, get a token each."""
        seen = sum(context if full else min(context, self.shape.window) for full in self.shape.full_layers)
        return Work(
            nbytes=self.weight_bytes + batch * seen * self._kv_bytes,
            flop=batch * (2.0 * (self.layer_weights + self.head_weights) + seen * self._seen_flop),
        )

    def prefill(self, tokens: int) -> Work:
        """A prompt up to its first drawn token, on an empty context, in one piece."""
        seen = sum(_seen_by_all(tokens, tokens if full else self.shape.window) for full in self.shape.full_layers)
        written = tokens * len(self.shape.full_layers) * self._kv_bytes
        return Work(
            nbytes=self.weight_bytes + written,
            flop=2.0 * (tokens * self.layer_weights + self.head_weights) + seen * self._seen_flop,
        )

    def picture(self, vision: VisionShape) -> Work:
        """One image through the tower; the projector is nothing beside it."""
        patches = (vision.image_size // vision.patch_size) ** 2
        width, inner = vision.hidden_size, vision.intermediate_size
        layer_weights = 4 * width * width + 2 * width * inner
        embedding = width * vision.num_channels * vision.patch_size**2
        weights = vision.num_hidden_layers * layer_weights + embedding
        attention = 4.0 * patches * patches * width * vision.num_hidden_layers
        return Work(nbytes=weights * self.itemsize, flop=2.0 * patches * weights + attention)

    @property
    def _kv_bytes(self) -> int:
        """Of one token on one layer."""
        head = self.shape.head_dim + 4 if self.kv_coded else self.shape.head_dim * self.itemsize
        return 2 * self.shape.kv_heads * head

    @property
    def _seen_flop(self) -> float:
        """Of one token that sees one position on one layer."""
        return 4.0 * self.shape.heads * self.shape.head_dim


def _seen_by_all(tokens: int, window: int) -> float:
    """Σ min(i, window) for i in [1, tokens]: positions that a prompt's tokens see together."""
    inside = min(tokens, window)
    return inside * (inside + 1) / 2 + (tokens - inside) * window
