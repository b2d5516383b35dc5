"""A step's chunks laid end to end: what every runner puts before the network, as plain lists."""

from __future__ import annotations

from collections.abc import Sequence as Many
from dataclasses import dataclass, field

from gemmad.engine.scheduler import Chunk, Limits
from gemmad.engine.sequence import Sequence
from gemmad.engine.vision import PictureEncoder

MOST_BANNED_IDS = 8
"""Stop ids of one request that can be held back until its shortest length."""


@dataclass
class FlatStep:
    """T tokens of S sequences, R of which speak."""

    ids: list[int] = field(default_factory=list)
    feed: list[int] = field(default_factory=list)
    """Index, among those that spoke in the step before, of the one whose unknown token this is; -1 for known ones."""
    positions: list[int] = field(default_factory=list)
    reach: list[int] = field(default_factory=list)
    image_index: list[int] = field(default_factory=list)
    starts: list[int] = field(default_factory=lambda: [0])
    contexts: list[int] = field(default_factory=list)
    outputs: list[int] = field(default_factory=list)
    full_slots: list[int] = field(default_factory=list)
    sliding_slots: list[int] = field(default_factory=list)
    speaking: list[Sequence] = field(default_factory=list)
    longest_query: int = 1
    has_images: bool = False


def flatten(
    chunks: Many[Chunk], spoke_before: Many[Sequence], limits: Limits, encoder: PictureEncoder | None
) -> FlatStep:
    """Lay out one step; pictures that it holds are computed now."""
    flat = FlatStep()
    feeds = {id(sequence): index for index, sequence in enumerate(spoke_before)}
    for chunk in chunks:
        _append(flat, chunk, feeds.get(id(chunk.sequence)))
        _place_pictures(flat, chunk, encoder)
        flat.full_slots += _slots(chunk, limits.page_tokens, sliding=False)
        flat.sliding_slots += _slots(chunk, limits.page_tokens, sliding=True)
    return flat


def _append(flat: FlatStep, chunk: Chunk, feed: int | None) -> None:
    known = chunk.sequence.tokens[chunk.start : chunk.end]
    unknown = chunk.count - len(known)
    assert unknown == 0 or (unknown == 1 and feed is not None), "a token is computed before it is drawn"
    flat.ids += known + [0] * unknown
    flat.feed += [-1] * len(known) + [feed if feed is not None else -1] * unknown
    flat.positions += range(chunk.start, chunk.end)
    flat.reach += range(chunk.start, chunk.end)
    flat.image_index += [-1] * chunk.count
    flat.starts.append(len(flat.ids))
    flat.contexts.append(chunk.end)
    flat.longest_query = max(flat.longest_query, chunk.count)
    if chunk.speaks:
        flat.outputs.append(len(flat.ids) - 1)
        flat.speaking.append(chunk.sequence)


def _place_pictures(flat: FlatStep, chunk: Chunk, encoder: PictureEncoder | None) -> None:
    for picture in chunk.sequence.pictures_in(chunk.start, chunk.end):
        assert encoder is not None, "pictures are refused by a text-only engine"
        start = max(picture.start, chunk.start)  # pages may hold the image's first part already
        count, first = picture.end - start, encoder.place(picture) + start - picture.start
        row = flat.starts[-2] + start - chunk.start
        flat.image_index[row : row + count] = range(first, first + count)
        flat.reach[row : row + count] = [picture.end - 1] * count
        flat.ids[row : row + count] = [0] * count  # the soft token's id may lie outside the embedding
        flat.has_images = True


def _slots(chunk: Chunk, page: int, *, sliding: bool) -> list[int]:
    held = chunk.sequence.sliding_pages if sliding else chunk.sequence.full_pages
    if not held:  # the network has no layers of this kind
        return [-1] * chunk.count
    return [held[p // page] * page + p % page for p in range(chunk.start, chunk.end)]


def page_rows(chunks: Many[Chunk], *, sliding: bool) -> tuple[list[list[int]], int]:
    """Each sequence's row of the page table, and the width that all share: for the window a ring just wide enough that
    no two live pages of a sequence share a column."""
    if not sliding:
        held = [chunk.sequence.full_pages for chunk in chunks]
        width = max(1, *(len(pages) for pages in held))
        return [pages + [0] * (width - len(pages)) for pages in held], width
    live = [chunk.sequence.sliding_pages for chunk in chunks]
    width = max((max(pages) - min(pages) + 1 for pages in live if pages), default=1)
    rows = []
    for pages in live:
        row = [0] * width
        for index, page in pages.items():
            row[index % width] = page
        rows.append(row)
    return rows, width


def sliding_ring(limits: Limits, longest_chunk: int) -> int:
    """Columns of a ring that serves any step: no two pages that a sequence holds at a time share one."""
    return max(1, -(-(limits.window - 1 + longest_chunk) // limits.page_tokens) + 1)


def banned_ids(sequence: Sequence) -> list[int]:
    """Ids that the next draw may not give, padded with -1."""
    ids = list(sequence.banned_ids())
    return ids + [-1] * (MOST_BANNED_IDS - len(ids))
