"""The prefix cache: what an earlier request has computed is found again by its content and not computed again.

A page of P tokens is named by all that its keys and values depend on, its own tokens and everything before them:

    key[i] = BLAKE2b-128(key[i - 1] ‖ ids of page i ‖ images that overlap page i)

Equal keys mean equal keys and values, so a beginning of n pages can be taken over when the full pool has all n, and the
sliding pool those that the window still reaches from there. It may end anywhere, inside an image too: what is left of
the image sees the part before it in the pages, as it would have in its own step.

    position    0 ............................................. n·P .......... length
    full        [ taken over .................................. ][ computed ... )
    sliding                          [ n·P - window + 1, taken  ][ computed ... )

Who holds a registered full page holds all those before it, and gives the later ones back first. So those before a page
are held as long as it is held, and kept as long as it is kept: how far a beginning reaches is found by bisection.
"""

from __future__ import annotations

import struct
from array import array
from bisect import bisect_left
from dataclasses import dataclass
from hashlib import blake2b

from gemmad.engine.pages import PagePool
from gemmad.engine.sequence import Sequence

_KEY_BYTES = 16
_ROOT = bytes(_KEY_BYTES)
_IMAGE = struct.Struct("<qqq")
"""Where an image begins, counted from the page's first token, its soft tokens, and the bytes of its digest."""


@dataclass(frozen=True)
class Hit:
    """A beginning that is computed already. Nobody holds it for its finder, so it is good until pages change hands."""

    pages: int = 0
    held_full: int = 0
    """Full pages among them that others hold: those cost nothing. The rest counts as free until it is taken."""
    free_sliding: int = 0
    """Sliding pages that it needs and that count as free until they are taken."""


MISS = Hit()


class PrefixCache:
    """Finds beginnings in both pools, and registers what is computed."""

    def __init__(self, full: PagePool | None, sliding: PagePool | None, *, page_tokens: int, window: int) -> None:
        """A pool is None where the network has no layers of its kind."""
        self._full = full
        self._sliding = sliding
        self._page_tokens = page_tokens
        self._window = window

    def match(self, sequence: Sequence) -> Hit:
        """The longest beginning of a waiting sequence that can be taken over; at least one token is left to compute.

        Costs a hash for each of its pages the first time, and then some hundred look-ups, however long it is.
        """
        most = min(len(sequence.tokens), sequence.length - 1) // self._page_tokens
        keys = page_keys(sequence, most, page_tokens=self._page_tokens)
        full, sliding = self._full, self._sliding
        if full is not None:
            most = bisect_left(range(most), True, key=lambda index: not full.has(keys[index]))
        pages = most if sliding is None else self._last_window(sliding, keys, most)
        held = 0
        if full is not None:
            held = bisect_left(range(pages), True, key=lambda index: not full.is_held(keys[index]))
        free = 0
        if sliding is not None:
            free = sum(not sliding.is_held(keys[index]) for index in self._reached(pages))
        return Hit(pages, held, free)

    def acquire(self, sequence: Sequence, hit: Hit) -> None:
        """Hold a hit's pages, for a sequence that holds none."""
        keys = sequence.page_keys
        if self._full is not None:
            sequence.full_pages = [self._full.share(key) for key in keys[: hit.pages]]
        if self._sliding is not None:
            sequence.sliding_pages = {index: self._sliding.share(keys[index]) for index in self._reached(hit.pages)}
        sequence.computed = hit.pages * self._page_tokens
        sequence.registered = hit.pages

    def register(self, sequence: Sequence) -> None:
        """Let others find the pages that are filled with known tokens and whose computation is under way.

        Where an equal page is there already the sequence goes on with that one, so that no content is held twice.
        """
        done = min(sequence.computed, len(sequence.tokens)) // self._page_tokens
        if done <= sequence.registered:
            return
        keys = page_keys(sequence, done, page_tokens=self._page_tokens)
        for index in range(sequence.registered, done):
            if self._full is not None:
                sequence.full_pages[index] = self._full.register(sequence.full_pages[index], keys[index])
            if self._sliding is not None and index in sequence.sliding_pages:
                page = sequence.sliding_pages[index]
                sequence.sliding_pages[index] = self._sliding.register(page, keys[index])
        sequence.registered = done

    def _last_window(self, sliding: PagePool, keys: list[bytes], most: int) -> int:
        """The largest number of pages ≤ `most` from whose end on all that the window reaches is there."""
        pages = most
        while pages:
            missing = next((index for index in self._reached(pages) if not sliding.has(keys[index])), None)
            if missing is None:
                break
            pages = missing  # whatever ends behind it, up to here, needs it as well
        return pages

    def _reached(self, pages: int) -> range:
        """Sliding pages that the token after so many pages sees."""
        return range(max(0, pages * self._page_tokens - self._window + 1) // self._page_tokens, pages)


def page_keys(sequence: Sequence, count: int, *, page_tokens: int) -> list[bytes]:
    """The sequence's own list of keys, long enough for its first `count` pages, whose tokens must be known."""
    keys = sequence.page_keys
    if count <= len(keys):
        return keys
    first, end = len(keys) * page_tokens, count * page_tokens
    ids = sequence.tokens[first:end]
    pictures = sequence.pictures_in(first, end)
    for picture in pictures:  # a soft token's id is never read; what it stands for is its image
        start, stop = max(picture.start, first), min(picture.end, end)
        ids[start - first : stop - first] = [0] * (stop - start)
    data, size = array("q", ids).tobytes(), 8 * page_tokens
    for offset in range(0, len(data), size):
        digest = blake2b(keys[-1] if keys else _ROOT, digest_size=_KEY_BYTES)
        digest.update(data[offset : offset + size])
        if pictures:
            digest.update(_images(sequence, len(keys) * page_tokens, page_tokens))
        keys.append(digest.digest())
    return keys


def _images(sequence: Sequence, start: int, count: int) -> bytes:
    """Which images overlap positions [start, start + count), and how they lie there."""
    parts = []
    for picture in sequence.pictures_in(start, start + count):
        name = picture.span.digest.encode()
        parts += [_IMAGE.pack(picture.start - start, picture.span.length, len(name)), name]
    return b"".join(parts)
