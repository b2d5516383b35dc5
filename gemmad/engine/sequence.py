"""One request in the engine: its tokens, how many of them are computed, and the pages that hold them."""

from __future__ import annotations

import bisect
from collections.abc import Sequence as Many
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch

from gemmad.generation import FinishReason, ImageSpan, Prompt, SamplingParams


@dataclass(frozen=True)
class Picture:
    """An image of a request: where its soft tokens are, and its pixels until they are no longer needed."""

    span: ImageSpan
    pixels: torch.Tensor
    """[height, width, 3] uint8 on the host."""

    @property
    def start(self) -> int:
        """First soft token."""
        return self.span.start

    @property
    def end(self) -> int:
        """One past the last soft token."""
        return self.span.start + self.span.length


class Matcher(Protocol):
    """How far one reply has come in its grammar (`gemmad.grammar.matcher`)."""

    @property
    def ended(self) -> bool:
        """Nothing may follow but the reply's end: only stop ids are allowed any more."""

    @property
    def error(self) -> str | None:
        """Why it has given up, if it has."""

    def accept(self, token_id: int) -> bool:
        """Take the next token; False for one that the grammar does not allow."""


class Grammars(Protocol):
    """Compiles what `SamplingParams.grammar` says (`gemmad.grammar.matcher`)."""

    def warm(self) -> Future[None]:
        """Begin to read the vocabulary, if that has not begun."""

    def begin(self, source: str) -> Future[Any]:
        """A `Matcher` of its own, at the source's beginning, made beside the thread that asks. The future raises what
        is wrong with the source."""

    def fill_batch(self, rows: Many[tuple[Any, int]], bitmask: np.ndarray[Any, np.dtype[np.int32]]) -> None:
        """For each (matcher, i) write into `bitmask[i]`, [⌈vocab/32⌉], what may come next: a bit for each token, the
        lowest of a word first."""


@dataclass(eq=False)
class Hold:
    """What keeps a reply to its grammar. It goes where the sequence goes, also out of the pages and back."""

    matcher: Matcher
    grammars: Grammars
    """Who made it, and writes the masks of many at once."""
    accepted: int = 0
    """Tokens of the reply that the matcher has taken."""
    problem: str | None = None
    """Why the reply cannot go on."""


@dataclass(eq=False)
class Sequence:
    """Mutable, owned by the engine's thread alone."""

    request_id: int
    tokens: list[int]
    """Prompt, and all that was said, in this life or an earlier one."""
    prompt_tokens: int
    sampling: SamplingParams
    pictures: tuple[Picture, ...] = ()
    pending: int = 0
    """Tokens that steps under way draw and that are not known here yet."""
    computed: int = 0
    """Tokens whose keys and values are in pages, or will be once the steps under way are done."""
    full_pages: list[int] = field(default_factory=list)
    """Page i holds positions [i·P, (i+1)·P)."""
    sliding_pages: dict[int, int] = field(default_factory=dict)
    """The same numbering, ascending and without a gap; only those that the window still reaches."""
    page_keys: list[bytes] = field(default_factory=list)
    """Names of the contents of its first pages, as far as somebody wanted to know them."""
    registered: int = 0
    """Its first so many pages are such that others can find them."""
    inherited: int = 0
    """Tokens that it had said before it came here."""
    cached_tokens: int | None = None
    """Prompt tokens that pages held when it was first admitted; None before that."""
    hold: Hold | None = None

    @property
    def length(self) -> int:
        """Tokens so far, the pending one included."""
        return len(self.tokens) + self.pending

    @property
    def complete(self) -> bool:
        """True once its last token is drawn, known here or not: nothing of it needs computing any more."""
        return self.length >= self.prompt_tokens + self.sampling.max_tokens

    @property
    def said(self) -> int:
        """Tokens generated so far."""
        return len(self.tokens) - self.prompt_tokens

    def append(self, token: int) -> FinishReason | None:
        """Take one drawn token; tells whether, and how, the reply ends with it."""
        self.pending -= 1
        self.tokens.append(token)
        long_enough = self.said >= self.sampling.min_tokens or self.hold is not None  # which bans stop ids by its mask
        if token in self.sampling.stop_token_ids and long_enough:
            return FinishReason.STOP
        if self.said >= self.sampling.max_tokens:
            return FinishReason.LENGTH
        return None

    @property
    def may_not_end(self) -> bool:
        """Whether the next draw would end the reply before its shortest length."""
        return self.length - self.prompt_tokens + 1 < self.sampling.min_tokens

    def banned_ids(self) -> tuple[int, ...]:
        """Ids that the next draw may not give: those that would end a reply before its shortest length. What a grammar
        holds is banned by its mask instead, unless nothing else is left."""
        return self.sampling.stop_token_ids if self.may_not_end and self.hold is None else ()

    @property
    def is_weighed(self) -> bool:
        """Whether it wants penalties, for which is counted what it has said."""
        chosen = self.sampling
        return bool(chosen.frequency_penalty or chosen.presence_penalty) or chosen.repetition_penalty != 1

    @property
    def is_steered(self) -> bool:
        """Whether it wants its logits changed before a draw, or told after it."""
        chosen = self.sampling
        return self.is_weighed or bool(chosen.logit_bias) or chosen.logprobs is not None or self.hold is not None

    def picture_at(self, position: int) -> Picture | None:
        """The image that a position lies in."""
        index = bisect.bisect_right(self.pictures, position, key=lambda picture: picture.start) - 1
        if index >= 0 and position < self.pictures[index].end:
            return self.pictures[index]
        return None

    def pictures_in(self, start: int, end: int) -> tuple[Picture, ...]:
        """Images that lie, at least in part, at positions [start, end)."""
        first = bisect.bisect_right(self.pictures, start, key=lambda picture: picture.end)
        last = bisect.bisect_left(self.pictures, end, key=lambda picture: picture.start)
        return self.pictures[first:last]


def new_sequence(
    request_id: int,
    prompt: Prompt,
    sampling: SamplingParams,
    *,
    generated: tuple[int, ...] = (),
    pixels: tuple[torch.Tensor, ...] = (),
) -> Sequence:
    """A sequence that has computed nothing yet."""
    pictures = tuple(Picture(span, image) for span, image in zip(prompt.images, pixels, strict=True))
    return Sequence(
        request_id,
        [*prompt.token_ids, *generated],
        len(prompt.token_ids),
        sampling,
        pictures,
        inherited=len(generated),
    )
