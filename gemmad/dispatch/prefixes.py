"""What a worker most likely holds of a prompt, known without asking it.

A text is cut into blocks of `BLOCK_TOKENS`, and each whole block has a name made of its own ids, of the images that
begin in it and of the name before it. So a name stands for everything up to the end of its block, and two texts with
n names in common have n blocks in common. A name is only an int of 64 bits: where two texts share one by accident,
a request makes a detour, and nothing else depends on it. Naming 32768 tokens takes about 0.2 ms.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Sequence

from gemmad.generation import Capacity, Prompt

BLOCK_TOKENS = 64
MOST_NAMES = 1 << 15
"""Blocks that are remembered of one worker, whatever it holds: 2 M tokens, about 6 MB here."""
FORGETFUL = 0.2
"""Weight of the latest experience in the trust in a worker."""


class Blocks:
    """The names of one request's blocks: its prompt's, and with time its reply's."""

    __slots__ = ("_names", "_prompt")

    def __init__(self, prompt: Prompt) -> None:
        self._prompt = prompt
        self._names: list[int] = []

    def names(self, said: Sequence[int] = ()) -> list[int]:
        """Of all whole blocks in the prompt and what was `said` after it. The list is this object's own."""
        names, ids = self._names, self._prompt.token_ids
        name = names[-1] if names else 0
        at, end = len(names) * BLOCK_TOKENS, len(ids) + len(said)
        begun = self._images_by_block()
        while at + BLOCK_TOKENS <= end:
            stop = at + BLOCK_TOKENS
            block = ids[at:stop] if stop <= len(ids) else (*ids[at:], *said[max(0, at - len(ids)) : stop - len(ids)])
            name = hash((name, block, begun.get(at)))
            names.append(name)
            at = stop
        return names

    def _images_by_block(self) -> dict[int, tuple[str, ...]]:
        """Digests by the position where the block begins that their image begins in."""
        found: dict[int, tuple[str, ...]] = {}
        for image in self._prompt.images:
            at = image.start - image.start % BLOCK_TOKENS
            found[at] = (*found.get(at, ()), image.digest)
        return found


class Held:
    """What one life of one worker has computed and most likely kept, within what its pages can hold.

    Whoever touches a block touches all before it, and those later: so the blocks before one are kept as long as it is,
    and how far a text is held is found by bisection.
    """

    def __init__(self, capacity: Capacity) -> None:
        self._most = min(MOST_NAMES, capacity.full_pages * capacity.page_tokens // BLOCK_TOKENS)
        self._names: OrderedDict[int, None] = OrderedDict()
        """Longest untouched first."""
        self.trust = 1.0
        """How much of what is remembered here was there when it was needed, lately."""

    def tokens(self, names: list[int]) -> int:
        """How many of a text's first tokens are remembered."""
        return BLOCK_TOKENS * bisect_left(range(len(names)), True, key=lambda index: names[index] not in self._names)

    def add(self, names: list[int]) -> None:
        """It has computed this text."""
        for name in reversed(names):
            self._names[name] = None
            self._names.move_to_end(name)
        while len(self._names) > self._most:
            self._names.popitem(last=False)

    def learn(self, *, expected_tokens: int, cached_tokens: int) -> None:
        """What was expected of it and what it says: its cache may be off, or its pages were needed for others."""
        if expected_tokens > 0:
            self.trust += FORGETFUL * (min(1.0, cached_tokens / expected_tokens) - self.trust)
