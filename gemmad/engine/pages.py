"""Page accounting, pure. Free + held = all, always; a count that breaks is a crash, not a log line.

A page may be registered under a key that names its content; then the content outlives its holders, until the page is
needed for something else. Free pages are the blank and the kept ones.

    blank ──take──▶ held ──last holder gives back──▶ blank
                    held ──the same, registered────▶ kept ──share──▶ held
                                                     kept ──take, and nothing is blank, longest kept──▶ held
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable


class PagePool:
    """Numbers of pages 0 … count - 1. Blank ones are handed out last-freed first so that hot pages stay hot."""

    def __init__(self, count: int) -> None:
        self.count = count
        self._holders = [0] * count
        self._blank = list(range(count - 1, -1, -1))
        self._kept: OrderedDict[int, None] = OrderedDict()
        """Longest kept first."""
        self._page_of: dict[bytes, int] = {}
        self._key_of: dict[int, bytes] = {}

    @property
    def free(self) -> int:
        """Pages that nobody holds."""
        return len(self._blank) + len(self._kept)

    @property
    def used(self) -> int:
        """Pages that somebody holds."""
        return self.count - self.free

    @property
    def holds(self) -> int:
        """Pages that somebody holds, once for each who does."""
        return sum(self._holders)

    def take(self, count: int) -> list[int]:
        """`count` pages, all or none: an empty list for a positive count means that there is no room."""
        if count > self.free:
            return []
        pages = [self._blank.pop() if self._blank else self._evict() for _ in range(count)]
        for page in pages:
            self._holders[page] = 1
        return pages

    def give_back(self, pages: Iterable[int]) -> None:
        """Let go of pages; of those that are kept, the first given is the first evicted. One that is not held is a
        broken engine."""
        for page in pages:
            assert self._holders[page] > 0, f"page {page} is freed twice"
            self._holders[page] -= 1
            if self._holders[page]:
                continue
            if page in self._key_of:
                self._kept[page] = None
            else:
                self._blank.append(page)

    # --- pages by content ---------------------------------------------------------------------------------------------

    def register(self, page: int, key: bytes) -> int:
        """Name the content of a page that the caller alone holds.

        Returns the page to go on with: `page`, or the one that is registered under the key already. That one is then
        held as well, and `page` is given back.
        """
        assert self._holders[page] == 1, f"page {page} is not its writer's alone"
        assert page not in self._key_of, f"page {page} has a content already"
        if key in self._page_of:
            self.give_back((page,))
            return self.share(key)
        self._page_of[key] = page
        self._key_of[page] = key
        return page

    def share(self, key: bytes) -> int:
        """Hold the page that is registered under a key. Raises KeyError when none is."""
        page = self._page_of[key]
        if not self._holders[page]:
            del self._kept[page]
        self._holders[page] += 1
        return page

    def has(self, key: bytes) -> bool:
        """Whether a page is registered under a key."""
        return key in self._page_of

    def is_held(self, key: bytes) -> bool:
        """Whether one is, and somebody holds it."""
        page = self._page_of.get(key)
        return page is not None and self._holders[page] > 0

    def forget(self) -> None:
        """Make all pages blank. Nobody may hold one."""
        assert self.used == 0, "held pages cannot be forgotten"
        self._blank += self._kept
        self._kept.clear()
        self._page_of.clear()
        self._key_of.clear()

    def check(self) -> None:
        """Every page is blank, kept or held; kept pages have a key each, blank ones have none."""
        free = [*self._blank, *self._kept]
        assert len(free) == len(set(free)) == self._holders.count(0), "pages were lost"
        assert not any(map(self._holders.__getitem__, free)), "a page is free and held"
        assert self._kept.keys() <= self._key_of.keys(), "a page is kept that nobody can find"
        assert self._key_of.keys().isdisjoint(self._blank), "a blank page has a key"
        assert list(map(self._page_of.get, self._key_of.values())) == list(self._key_of), "keys and pages differ"
        assert len(self._page_of) == len(self._key_of), "keys and pages differ"

    def _evict(self) -> int:
        page, _ = self._kept.popitem(last=False)
        del self._page_of[self._key_of.pop(page)]
        return page
