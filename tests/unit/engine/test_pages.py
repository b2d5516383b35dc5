"""Page accounting."""

from __future__ import annotations

from collections import Counter

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


def test_a_registered_page_outlives_its_holder() -> None:
    """It counts as free and is found by its key until nothing else is free."""
    pool = PagePool(2)
    (page,) = pool.take(1)
    assert pool.register(page, b"a") == page
    pool.give_back([page])
    assert (pool.free, pool.used) == (2, 0)
    assert pool.take(1) != [page]
    assert pool.has(b"a")
    assert not pool.is_held(b"a")
    assert pool.take(1) == [page]
    assert not pool.has(b"a")
    pool.check()


def test_the_longest_kept_is_evicted_first() -> None:
    """Pages go in the order in which they were given back; one that was shared meanwhile has become young."""
    pool = PagePool(3)
    pages = pool.take(3)
    for page, key in zip(pages, (b"a", b"b", b"c"), strict=True):
        pool.register(page, key)
    pool.give_back(pages)
    pool.give_back([pool.share(b"a")])
    taken = [pool.take(1)[0] for _ in range(3)]
    assert taken == [pages[1], pages[2], pages[0]]


def test_a_page_is_shared_until_its_last_holder_leaves() -> None:
    """Each holder counts."""
    pool = PagePool(2)
    (page,) = pool.take(1)
    pool.register(page, b"a")
    assert pool.share(b"a") == page
    assert (pool.used, pool.holds) == (1, 2)
    pool.give_back([page])
    assert pool.is_held(b"a")
    pool.give_back([page])
    assert not pool.is_held(b"a")
    assert (pool.used, pool.holds) == (0, 0)


def test_one_content_has_one_page() -> None:
    """Who registers what is there already goes on with that page, and its own is blank again."""
    pool = PagePool(3)
    first, second = pool.take(2)
    pool.register(first, b"a")
    pool.give_back([first])
    assert pool.register(second, b"a") == first
    assert (pool.used, pool.holds) == (1, 1)
    pool.check()
    assert second in pool.take(2)


def test_only_its_writer_names_a_page() -> None:
    """A page with a name, or with two holders, takes no other name; a key that nobody registered cannot be shared."""
    pool = PagePool(2)
    (page,) = pool.take(1)
    pool.register(page, b"a")
    with pytest.raises(AssertionError, match="has a content"):
        pool.register(page, b"b")
    pool.share(b"a")
    with pytest.raises(AssertionError, match="not its writer's"):
        pool.register(page, b"b")
    with pytest.raises(KeyError):
        pool.share(b"b")


def test_forgetting() -> None:
    """All kept pages become blank, and only while nobody holds one."""
    pool = PagePool(2)
    (page,) = pool.take(1)
    pool.register(page, b"a")
    with pytest.raises(AssertionError, match="held pages"):
        pool.forget()
    pool.give_back([page])
    pool.forget()
    pool.check()
    assert not pool.has(b"a")
    assert len(pool.take(2)) == 2


@given(
    st.integers(0, 12),
    st.lists(st.tuples(st.sampled_from(["take", "back", "name", "share"]), st.integers(0, 5)), max_size=80),
)
def test_no_page_is_lost(count: int, script: list[tuple[str, int]]) -> None:
    """Whatever is taken, named, shared and given back: free and held are all, and the books are what holders hold."""
    pool, held = PagePool(count), list[int]()
    names = dict[int, bytes]()
    for action, pick in script:
        key = bytes([pick])
        if action == "take":
            taken = pool.take(pick)
            assert len(taken) in (0, pick)
            assert set(taken).isdisjoint(held)
            held += taken
            for page in taken:
                names.pop(page, None)
        elif action == "back" and held:
            pool.give_back([held.pop(pick % len(held))])
        elif action == "name" and held and held[pick % len(held)] not in names:
            page = pool.register(held[pick % len(held)], key)
            assert names.setdefault(page, key) == key
            held[pick % len(held)] = page
        elif action == "share" and pool.has(key):
            held.append(pool.share(key))
            assert names[held[-1]] == key
        pool.check()
        assert (pool.used, pool.holds, pool.free) == (len(set(held)), len(held), count - len(set(held)))
        assert all(pool.is_held(names[page]) for page in held if page in names)
        assert max(Counter(names[page] for page in set(held) if page in names).values(), default=1) == 1
