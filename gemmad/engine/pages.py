"""Page accounting, pure. Free + owned = all, always; a count that breaks is a crash, not a log line."""

from __future__ import annotations

from collections.abc import Iterable


class PagePool:
    """Numbers of pages 0 … count - 1, handed out last-freed first so that hot pages stay hot."""

    def __init__(self, count: int) -> None:
        self.count = count
        self._free = list(range(count - 1, -1, -1))
        self._owned: set[int] = set()

    @property
    def free(self) -> int:
        """Pages that nobody holds."""
        return len(self._free)

    @property
    def used(self) -> int:
        """Pages that somebody holds."""
        return len(self._owned)

    def take(self, count: int) -> list[int]:
        """`count` pages, all or none: an empty list for a positive count means that there is no room."""
        if count > len(self._free):
            return []
        pages = [self._free.pop() for _ in range(count)]
        self._owned.update(pages)
        return pages

    def give_back(self, pages: Iterable[int]) -> None:
        """Free pages; one that is not held is a broken engine."""
        for page in pages:
            assert page in self._owned, f"page {page} is freed twice"
            self._owned.remove(page)
            self._free.append(page)

    def check(self) -> None:
        """Free and owned are all pages, once each."""
        assert len(self._free) + len(self._owned) == self.count, "pages were lost"
        assert self._owned.isdisjoint(self._free), "a page is free and owned"
