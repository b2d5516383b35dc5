"""Who waits, and whose turn it is.

Those who have moved on from a lost worker go ahead of everybody, in their old order. Then the most urgent priority
counts, and within it the keys share by what their requests cost, first come, first served within each. It is start-time
fair queueing (Goyal, Vin, Cheng 1996) with the costs as they really occur, as in the virtual token counters of Sheng et
al. (OSDI 2024), since nobody knows beforehand how long a reply will be:

    an account counts the tokens that its key has used; the one that used least has its turn;
    the level is what the last one to have its turn had used;
    who was away comes back at the level, if it is below: time without requests is no credit.

So a key with one request waits for about one request of each other key, however many those have.
"""

from __future__ import annotations

import dataclasses
from collections import OrderedDict
from typing import Generic, TypeVar

REPLY_WEIGHT = 4.0
"""A reply token against a prompt token: as the 12B's speeds at 128 sequences."""

T = TypeVar("T")


@dataclasses.dataclass(eq=False, slots=True)
class Account:
    """What a key has used, for as long as it has requests."""

    key: str
    used: float = 0.0
    requests: int = 0
    """That have not ended."""
    waiting: int = 0

    def charge(self, *, prompt_tokens: int = 0, reply_tokens: int = 0) -> None:
        """It has used so much more."""
        self.used += prompt_tokens + REPLY_WEIGHT * reply_tokens


class Line(Generic[T]):
    """Items in the order of their turns; none is here twice. A turn costs a look at each key that waits."""

    def __init__(self) -> None:
        self._accounts: dict[str, Account] = {}
        self._level = 0.0
        self._ahead: OrderedDict[T, None] = OrderedDict()
        self._classes: dict[int, dict[Account, OrderedDict[T, None]]] = {}
        """By priority, the least first; only those that somebody waits in."""
        self._places: dict[T, tuple[int, Account]] = {}
        """Where in those an item is."""

    def __len__(self) -> int:
        return len(self._ahead) + len(self._places)

    def __contains__(self, item: T) -> bool:
        return item in self._ahead or item in self._places

    def open(self, key: str) -> Account:
        """The account of one more request of a key; `settle` it when the request has ended."""
        account = self._accounts.get(key)
        if account is None:
            account = self._accounts[key] = Account(key, self._level)
        account.requests += 1
        return account

    def settle(self, account: Account) -> None:
        """One request less."""
        account.requests -= 1
        if not account.requests:
            del self._accounts[account.key]

    def join(self, item: T, account: Account, *, priority: int = 0) -> None:
        """To the end of those with its key and priority."""
        if not account.waiting:
            account.used = max(account.used, self._level)
        account.waiting += 1
        self._classes.setdefault(priority, {}).setdefault(account, OrderedDict())[item] = None
        self._places[item] = priority, account

    def join_ahead(self, item: T) -> None:
        """To the head of them all."""
        self._ahead[item] = None
        self._ahead.move_to_end(item, last=False)

    def leave(self, item: T) -> None:
        """Out of turn, or not here at all."""
        if item in self._ahead:
            del self._ahead[item]
        elif item in self._places:
            self._take(item)

    def take_next(self) -> T:
        """Whoever has its turn. The line must not be empty."""
        if self._ahead:
            return self._ahead.popitem(last=False)[0]
        waiting = self._classes[min(self._classes)]
        account = min(waiting, key=lambda account: account.used)
        self._level = max(self._level, account.used)
        item = next(iter(waiting[account]))
        self._take(item)
        return item

    def waiting_of(self, key: str) -> int:
        """How many of a key wait for their first turn."""
        account = self._accounts.get(key)
        return account.waiting if account else 0

    def turns_before(self, key: str, *, priority: int = 0) -> int:
        """How many would have their turn before one that joined now, if all cost the same and nobody else came."""
        own = self._accounts.get(key)
        turns = len(self._ahead)
        for other, waiting in self._classes.items():
            if other < priority:
                turns += sum(map(len, waiting.values()))
            elif other == priority:
                mine = len(waiting[own]) if own in waiting else 0
                turns += mine + sum(min(mine + 1, len(items)) for account, items in waiting.items() if account != own)
        return turns

    def _take(self, item: T) -> None:
        priority, account = self._places.pop(item)
        account.waiting -= 1
        waiting = self._classes[priority]
        del waiting[account][item]
        if not waiting[account]:
            del waiting[account]
            if not waiting:
                del self._classes[priority]
