"""One request in the engine: its tokens, how many of them are computed, and the pages that hold them."""

from __future__ import annotations

import bisect
from dataclasses import dataclass, field

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
        if token in self.sampling.stop_token_ids and self.said >= self.sampling.min_tokens:
            return FinishReason.STOP
        if self.said >= self.sampling.max_tokens:
            return FinishReason.LENGTH
        return None

    def banned_ids(self) -> tuple[int, ...]:
        """Ids that the next draw may not give: those that would end a reply before its shortest length."""
        drawn = self.length - self.prompt_tokens
        return self.sampling.stop_token_ids if drawn + 1 < self.sampling.min_tokens else ()

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
