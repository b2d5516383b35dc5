"""What the store keeps, and what it lets go of."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from gemmad.api.openai.responses.items import InputText, Message
from gemmad.api.openai.responses.store import Kept, Store, Turn


def turn(name: str, *, characters: int = 10) -> Turn:
    return Turn.of((Message(f"in_{name}", "user", (InputText("x" * characters),)),), ())


def kept(name: str, *turns: Turn, key: str = "a", body: bytes = b"{}") -> Kept:
    return Kept(name, key, body, turns)


def test_the_oldest_goes_first() -> None:
    """Beyond its number of responses the store lets go of the one that was not used for longest."""
    store = Store(max_responses=2)
    for name in ("one", "two"):
        store.put(kept(name, turn(name)))
    assert store.get("one", key="a") is not None
    store.put(kept("three", turn("three")))
    assert store.get("two", key="a") is None
    assert store.find_item("in_two", key="a") is None
    assert store.find_item("in_one", key="a") is not None
    assert len(store) == 2


def test_bytes_are_bounded() -> None:
    """Large responses push out others; one larger than the whole store is not kept."""
    store = Store(max_bytes=20_000)
    store.put(kept("small", turn("small")))
    store.put(kept("large", turn("large", characters=15_000)))
    store.put(kept("larger", turn("larger", characters=12_000)))
    assert [store.get(name, key="a") is not None for name in ("small", "large", "larger")] == [False, False, True]
    store.put(kept("huge", turn("huge", characters=30_000)))
    assert (len(store), store.bytes) == (0, 0)


def test_a_chain_is_counted_once() -> None:
    """A turn that several responses share takes its bytes once, and outlives the response that it came with."""
    store = Store()
    first, second = turn("first", characters=100_000), turn("second")
    store.put(kept("one", first))
    before = store.bytes
    store.put(kept("two", first, second))
    assert store.bytes - before < 5_000
    assert store.delete("one", key="a")
    assert store.find_item("in_first", key="a") is not None
    two = store.get("two", key="a")
    assert two is not None
    assert [item.id for item in two.input_items] == ["in_first", "in_second"]
    assert store.delete("two", key="a")
    assert store.find_item("in_first", key="a") is None
    assert store.bytes == 0


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("pdg"), st.integers(0, 9), st.integers(0, 9)), max_size=60))
def test_the_books_are_kept(steps: list[tuple[str, int, int]]) -> None:
    """After anything that was put, had and deleted the bytes are those of what is there, within the bounds."""
    store = Store(max_responses=5, max_bytes=20_000)
    held: dict[str, Kept] = {}
    for count, (step, number, other) in enumerate(steps):
        name = f"r{number}"
        if step == "p":
            previous = store.get(f"r{other}", key="a")
            name = f"r{number}_{count}" if store.get(name, key="a") else name
            before = previous.turns if previous else ()
            held[name] = kept(name, *before, turn(f"{count}", characters=500 * number))
            store.put(held[name])
        elif step == "d":
            store.delete(name, key="a")
        else:
            assert store.get(name, key="b") is None
        there = [each for each in held.values() if store.get(each.id, key="a") is each]
        turns = {each for one in there for each in one.turns}
        assert len(there) == len(store) <= 5
        assert store.bytes == sum(each.own_bytes for each in there) + sum(each.size_bytes for each in turns) <= 20_000
