"""Responses that are kept so that they can be asked for and gone on with: in memory, bounded in number and bytes.

A response is a chain of turns: those of the response it goes on with, and its own. Turns are shared, so a long
conversation is kept once, and a response outlives the one before it. The bytes count every turn once, and go when the
last response with it goes. What was not used for longest goes first.
"""

from __future__ import annotations

from collections import OrderedDict

from msgspec import Struct

from gemmad.api.openai.responses.items import Item, size_bytes

MAX_RESPONSES = 1024
MAX_BYTES = 256 << 20
OVERHEAD_BYTES = 1024
"""What an entry takes beside its body, about."""


class Turn(Struct, frozen=True, eq=False):
    """What a request brought along, and what was answered."""

    input: tuple[Item, ...]
    output: tuple[Item, ...]
    size_bytes: int

    @classmethod
    def of(cls, input: tuple[Item, ...], output: tuple[Item, ...]) -> Turn:
        """Measured."""
        return cls(input, output, size_bytes(input + output))

    @property
    def items(self) -> tuple[Item, ...]:
        """All of it, in order."""
        return self.input + self.output


class Kept(Struct, frozen=True, eq=False):
    """One response."""

    id: str
    key: str
    """Whose it is: nobody else is told that it exists."""
    body: bytes
    """The response as JSON, as it is told."""
    turns: tuple[Turn, ...]
    """The last is its own."""
    background: bool = False
    events: tuple[bytes, ...] | None = None
    """Of its stream, by sequence number, if that can be taken up again."""

    @property
    def own_bytes(self) -> int:
        """Without the turns."""
        return OVERHEAD_BYTES + len(self.body) + sum(map(len, self.events or ()))

    @property
    def input_items(self) -> tuple[Item, ...]:
        """All that it was made from, the oldest first."""
        before = tuple(item for turn in self.turns[:-1] for item in turn.items)
        return before + self.turns[-1].input


class Store:
    """Not for threads."""

    def __init__(self, *, max_responses: int = MAX_RESPONSES, max_bytes: int = MAX_BYTES) -> None:
        self._max_responses = max_responses
        self._max_bytes = max_bytes
        self._kept: OrderedDict[str, Kept] = OrderedDict()
        self._users: dict[Turn, int] = {}
        """How many responses have a turn."""
        self._items: dict[tuple[str, str], Item] = {}
        """By key and id."""
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._kept)

    def put(self, kept: Kept) -> None:
        """Keep it, and let go of what there is no room for, which may be itself."""
        self._kept[kept.id] = kept
        self.bytes += kept.own_bytes
        for turn in kept.turns:
            users = self._users.get(turn, 0)
            self._users[turn] = users + 1
            if not users:
                self.bytes += turn.size_bytes
                self._items |= {(kept.key, item.id): item for item in turn.items}
        while len(self._kept) > self._max_responses or self.bytes > self._max_bytes:
            self._let_go(next(iter(self._kept)))

    def get(self, response_id: str, *, key: str) -> Kept | None:
        """It counts as used."""
        kept = self._kept.get(response_id)
        if kept is None or kept.key != key:
            return None
        self._kept.move_to_end(response_id)
        return kept

    def find_item(self, item_id: str, *, key: str) -> Item | None:
        """An item of any response that is kept."""
        return self._items.get((key, item_id))

    def delete(self, response_id: str, *, key: str) -> bool:
        """Whether there was one."""
        if self.get(response_id, key=key) is None:
            return False
        self._let_go(response_id)
        return True

    def _let_go(self, response_id: str) -> None:
        kept = self._kept.pop(response_id)
        self.bytes -= kept.own_bytes
        for turn in kept.turns:
            self._users[turn] -= 1
            if self._users[turn]:
                continue
            del self._users[turn]
            self.bytes -= turn.size_bytes
            for item in turn.items:
                if self._items.get((kept.key, item.id)) is item:
                    del self._items[kept.key, item.id]
