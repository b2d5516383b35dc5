"""Page accounting."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gemmad.engine.pages import PagePool


def test_takes_all_or_nothing() -> None:
    """A request for more pages than are free takes none."""
    pool = PagePool(4)
    assert len(pool.take(3)) == 3
    assert pool.take(2) == []
    assert (pool.free, pool.used) == (1, 3)


def test_a_page_freed_twice_is_a_crash() -> None:
    """Giving a page back that nobody holds stops the engine."""
    pool = PagePool(2)
    pages = pool.take(1)
    pool.give_back(pages)
    with pytest.raises(AssertionError, match="freed twice"):
        pool.give_back(pages)


@given(st.integers(0, 40), st.lists(st.integers(-5, 8), max_size=60))
def test_no_page_is_lost_or_shared(count: int, script: list[int]) -> None:
    """Whatever is taken and given back, every page is free or owned once."""
    pool, held = PagePool(count), list[list[int]]()
    for wish in script:
        if wish > 0:
            held.append(pool.take(wish))
        elif held:
            pool.give_back(held.pop(wish % len(held)))
        pool.check()
        owned = [page for pages in held for page in pages]
        assert len(owned) == len(set(owned)) == pool.used
