"""What attention needs to know about one step, shared by all layers of one kind."""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class AttentionBatch:
    """A ragged batch over one page pool. T tokens of S sequences lie one after the other.

    A query sees the keys of its own sequence at positions in `(position - window, reach]`: `reach` is its own position
    in text (causal) and its image's last position inside an image (two-way). A chunk never cuts an image, so every key
    up to `reach` is in the pool when attention runs. A sequence's positions follow one another up to its context's end,
    so along them `reach` never falls.
    """

    query_starts: torch.Tensor
    """[S + 1] int32: sequence s owns rows `query_starts[s] : query_starts[s + 1]`."""
    context_lens: torch.Tensor
    """[S] int32: tokens of the sequence in the pool, this step's included."""
    page_table: torch.Tensor
    """[≥ S · C] int32, S rows of C columns: position p lies in page `row[(p // page_tokens) % C]`; a ring for the
    sliding pool."""
    columns: torch.Tensor
    """[1] int32: C. On the device, so that one captured graph reads tables of any width."""
    positions: torch.Tensor
    """[T] int64."""
    reach: torch.Tensor
    """[T] int64."""
    slots: torch.Tensor
    """[T] int64: where this step's keys and values go, `page * page_tokens + offset`; -1 in a row of padding."""
    page_tokens: int
    window: int | None
    """None: every earlier key is seen."""
    longest_query: int
    """Most tokens that one sequence may bring; 1 in a step that only decodes."""
    gather_tokens: int | None = None
    """Where keys may be gathered into one piece for a backend that knows no pages: most keys that all sequences of the
    step see together. None: they may not, since an image is in the step or the contexts are too long for that."""


@dataclass(frozen=True)
class SamplingBatch:
    """How to draw each of R rows; a row is drawn the same whatever the other rows are."""

    temperature: torch.Tensor
    """[R] float32; 0 is greedy."""
    top_k: torch.Tensor
    """[R] int64; 0 is off."""
    top_p: torch.Tensor
    """[R] float32; 1 is off."""
    min_p: torch.Tensor
    """[R] float32; 0 is off."""
    seed: torch.Tensor
    """[R] int64, all 64 bits used."""
    position: torch.Tensor
    """[R] int64: index in its sequence of the token to be drawn."""
    banned_ids: torch.Tensor
    """[R, B] int64: ids that may not be drawn, those that would end a reply before its shortest length; -1 is none."""
    greedy: bool = False
    """True when every row is known to be greedy: nothing but the largest logit counts."""


@dataclass(frozen=True)
class SteeringBatch:
    """What each of R rows wants of its logits before it is drawn, and the tables that tell it.

    A row of the tables (a *slot*) is a request's as long as it runs; V tokens of the vocabulary, B biases at most.
    """

    slot: torch.Tensor
    """[R] int32: the row's place in the tables; -1: it wants neither penalty nor bias."""
    repetition: torch.Tensor
    """[R] float32; 1 is off."""
    frequency: torch.Tensor
    """[R] float32; 0 is off."""
    presence: torch.Tensor
    """[R] float32; 0 is off."""
    said: torch.Tensor
    """[slots, V] int16: the sign bit is set where the prompt has a token, the others count how often the reply does."""
    bias_ids: torch.Tensor
    """[slots, B] int32: different tokens; -1 is none."""
    bias: torch.Tensor
    """[slots, B] float32: what is added to their logits."""
    mask_row: torch.Tensor
    """[R] int32: the row of `masks` that tells which tokens a grammar allows; -1: it is held by none."""
    masks: torch.Tensor
    """[M, ⌈V/32⌉] int32: token i may follow where bit i mod 32 of word i div 32 is set."""


@dataclass(frozen=True)
class Logprobs:
    """Log-softmax in float32 of the logits as the network gave them, before temperature, filters and bans."""

    token: torch.Tensor
    """[R] float32: of the tokens asked about."""
    top_ids: torch.Tensor
    """[R, N] int64: the likeliest tokens, first the likeliest, ties by id; -1 where no more are possible."""
    top: torch.Tensor
    """[R, N] float32: of those; -inf where no more are possible."""
