"""Whose turn it is."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from gemmad.dispatch.line import Account, Line


class Queue:
    """A line of (key, number), each an account's next request, that costs what a test says."""

    def __init__(self) -> None:
        self.line: Line[tuple[str, int]] = Line()
        self.accounts: dict[tuple[str, int], Account] = {}
        self.numbers = Counter[str]()

    def join(self, key: str, count: int = 1, *, priority: int = 0) -> None:
        for _ in range(count):
            item = (key, self.numbers[key])
            self.numbers[key] += 1
            self.accounts[item] = self.line.open(key)
            self.line.join(item, self.accounts[item], priority=priority)

    def serve(self, *, prompt_tokens: int = 100, reply_tokens: int = 0) -> tuple[str, int]:
        """The next one, from its turn to its end."""
        item = self.line.take_next()
        account = self.accounts.pop(item)
        account.charge(prompt_tokens=prompt_tokens, reply_tokens=reply_tokens)
        self.line.settle(account)
        return item

    def keys(self, count: int, **cost: int) -> str:
        return "".join(self.serve(**cost)[0] for _ in range(count))


def test_first_come_first_served() -> None:
    """Within a key it is the old order."""
    queue = Queue()
    queue.join("a", 5)
    assert [queue.serve()[1] for _ in range(5)] == [0, 1, 2, 3, 4]
    assert len(queue.line) == 0


def test_a_thousand_requests_delay_nobody_elses() -> None:
    """A key that comes with one request waits for one of those that another has a thousand of."""
    queue = Queue()
    queue.join("a", 1000)
    assert queue.keys(10) == "a" * 10
    queue.join("b")
    assert queue.line.turns_before("a") == 991  # the new one's too
    assert queue.line.turns_before("c") == 2
    assert "b" in queue.keys(2)


def test_keys_share_by_tokens() -> None:
    """Who asks for four times as long replies has a quarter of the turns."""
    queue = Queue()
    queue.join("long", 100)
    queue.join("short", 100)
    served = Counter[str]()
    for _ in range(50):
        item = queue.line.take_next()
        account = queue.accounts.pop(item)
        account.charge(prompt_tokens=10, reply_tokens=400 if item[0] == "long" else 100)
        served[item[0]] += 1
    assert 3.5 < served["short"] / served["long"] < 4.5


def test_absence_is_no_credit() -> None:
    """Who was away does not catch up on what it did not ask for."""
    queue = Queue()
    queue.join("i")
    queue.serve()
    queue.join("b", 100)
    queue.keys(50)
    queue.join("i", 100)
    assert queue.keys(10).count("i") in {5, 6}


def test_the_more_urgent_go_first() -> None:
    """A lower priority comes before all of a higher one, whoever asks; the turns within one are fair."""
    queue = Queue()
    queue.join("a", 3, priority=5)
    queue.join("b", 2)
    queue.join("c", 2, priority=-1)
    queue.join("d", 1, priority=-1)
    assert queue.line.turns_before("e", priority=-2) == 0
    assert queue.line.turns_before("e") == 4
    assert queue.line.turns_before("b") == 5
    assert queue.keys(8) == "cdcbbaaa"


def test_who_moved_on_goes_ahead() -> None:
    """Whoever had a turn before goes before all who had none, in the order that it is put there."""
    queue = Queue()
    queue.join("a", 3, priority=-100)
    queue.line.join_ahead(("x", 2))
    queue.line.join_ahead(("x", 1))
    assert queue.line.turns_before("a", priority=-100) == 5
    assert [queue.line.take_next() for _ in range(3)] == [("x", 1), ("x", 2), ("a", 0)]


def test_leaving_out_of_turn() -> None:
    """Who leaves is gone from wherever it was, and again is nothing."""
    queue = Queue()
    queue.join("a", 2)
    queue.line.join_ahead(("x", 1))
    for item in (("a", 0), ("x", 1), ("a", 0), ("nobody", 1)):
        queue.line.leave(item)
        assert item not in queue.line
    assert len(queue.line) == 1
    assert queue.line.waiting_of("a") == 1
    assert queue.line.take_next() == ("a", 1)


def test_accounts_end_with_their_requests() -> None:
    """A key that has nothing here is not remembered."""
    queue = Queue()
    for number in range(100):
        queue.join(f"key {number}")
    while queue.line:
        queue.serve()
    assert queue.line._accounts == {}
    assert queue.line._classes == {}


ACTS = st.lists(st.tuples(st.sampled_from("abcd"), st.integers(1, 500), st.booleans()), min_size=1, max_size=200)


@given(ACTS)
def test_backlogged_keys_get_the_same(acts: list[tuple[str, int, bool]]) -> None:
    """Between two keys that wait all the time, what they used never differs by more than two requests cost."""
    queue = Queue()
    dearest = max(cost for _, cost, _ in acts)
    queue.join("x", 400)
    queue.join("y", 400)
    used = Counter[str]()
    for key, cost, joins in acts:
        if joins:
            queue.join(key)
        used[queue.serve(prompt_tokens=cost)[0]] += cost
    assert abs(used["x"] - used["y"]) <= 2 * dearest


@given(ACTS, st.lists(st.integers(-2, 2), min_size=1, max_size=200))
def test_everybody_has_one_turn(acts: list[tuple[str, int, bool]], priorities: list[int]) -> None:
    """Nobody is lost, and nobody comes before an earlier one of its key and priority."""
    queue = Queue()
    for (key, _, _), priority in zip(acts, priorities, strict=False):
        queue.join(f"{key}{priority}", priority=priority)
    expected = set(queue.accounts)
    served = [queue.serve() for _ in range(len(queue.line))]
    assert set(served) == expected
    assert len(served) == len(expected)
    last: dict[str, int] = {}
    for key, number in served:
        assert number > last.get(key, -1)
        last[key] = number
