"""What is to be compared: the command line tells it to the measuring program as one JSON argument."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from gemmad.bench.wanted import ShapeName
from gemmad.generation import AttentionBackend, WeightFormat

Coded = Literal["bf16", "fp8", "int8", "int4"]
CodedKV = Literal["bf16", "fp8", "int8"]
Mode = Literal["prefill", "decode"]

WEIGHTS: tuple[Coded, ...] = ("bf16", "fp8", "int8", "int4")
KV: tuple[CodedKV, ...] = ("bf16", "fp8", "int8")
Combination = tuple[WeightFormat, CodedKV]
UNQUANTISED: Combination = ("bf16", "bf16")
AS_IT_COMES: WeightFormat = "auto"
"""The format of a checkpoint that is coded already."""


class Wanted(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A comparison. Exactly one of `model` and `random_weights` is set; `texts` are for `model` alone."""

    model: str | None = None
    """Folder of a checkpoint."""
    random_weights: ShapeName | None = None
    """Shape of a network without a checkpoint; its text is made up too."""
    layers: int | None = None
    """Only the first so many."""
    texts: tuple[str, ...] = ()
    """Files in UTF-8, read as one text."""
    replies: bool = False
    """Score only what is said by the model, in a text of chats."""
    weights: tuple[Coded, ...] = WEIGHTS
    kv: tuple[CodedKV, ...] = KV
    mode: Mode = "prefill"
    context: int = 2048
    """Tokens of a window."""
    stride: int | None = None
    """Tokens from one window's beginning to the next one's; None is `context`."""
    tokens: int = 16384
    """Of the text, at most."""
    step_tokens: int = 2048
    """engine.max_step_tokens: how long the pieces are that a window is computed in."""
    sequences: int = 8
    """Windows that are decoded side by side."""
    page_tokens: int | None = None
    attention: AttentionBackend = "auto"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: int | None = None
    """On a CPU."""
    scratch: str
    """Folder that the reference's logits lie in while it runs."""
    json: str | None = None
    markdown: str | None = None
    command: tuple[str, ...] = ()
    """As it was typed, for the record."""

    def combinations(self, *, comes_coded: bool) -> tuple[Combination, ...]:
        """The reference first whether it was asked for or not, each format of weights in one piece.

        A checkpoint that comes coded is had in that format alone, and decoded: that is its reference.
        """
        asked = [weights for weights in WEIGHTS if weights in self.weights]
        formats: list[WeightFormat] = [*asked]
        if comes_coded:
            formats = list(dict.fromkeys("bf16" if each == "bf16" else AS_IT_COMES for each in asked))
        return tuple(dict.fromkeys((UNQUANTISED, *((each, kv) for each in formats for kv in KV if kv in self.kv))))
