"""Who gets a request, and when: pure choices over what is known of the workers.

The queue stays in the daemon. A worker is handed what it can compute at a time and a small backlog, so that its next
step is never empty; whatever else waits can still go to whoever is free first, and is not lost with a worker.

Least work first, measured in tokens to compute, so that a prefix that a worker holds weighs against the crowd there:

    work = prompt tokens not read yet, this request's own included, unless it holds them
         + SEQUENCE_TOKENS for each sequence
         + CONTEXT_WEIGHT for each token of context

all over the worker's size. A conversation so goes back to where its prefix is, unless there are more sequences than it
saves times SEQUENCE_TOKENS; and never into a crowd, where it would wait for a place or for pages that others have free.

The weights are those of the 12B on an H200 (docs/benchmarks): reading a token takes 37 µs. With one sequence more a
step takes 0.07 ms longer, and a reply of 300 tokens 20 ms: the time of about 512 tokens. A token of context is 64 KiB
that every step reads, in 15 ns; over such a reply it takes an eighth of a token's time.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Generic, TypeVar

from msgspec import Struct

from gemmad.generation import Capacity

SEQUENCE_TOKENS = 512
CONTEXT_WEIGHT = 1 / 8
KEY_SHARE = 3
"""Places in the queue that a key may have for each one that is free."""

W = TypeVar("W")


class Standing(Struct, Generic[W], frozen=True, kw_only=True):
    """One ready worker, as far as the choice depends on it."""

    worker: W
    capacity: Capacity
    sequences: int
    """Requests that it was handed and that have not ended."""
    tokens: int
    """Prompt and reply tokens of those, so far; of shared prefixes once."""
    unread_tokens: int = 0
    """The part of these that it has most likely not computed yet."""
    held_tokens: int = 0
    """Tokens of the prompt in question that it holds already."""


def choose(standings: Sequence[Standing[W]], *, prompt_tokens: int) -> W | None:
    """The worker with the least to do for its size, or None: wait. The first of equals."""
    free = [standing for standing in standings if standing.sequences < places(standing.capacity)]
    if len(free) > 1:
        return min(free, key=lambda standing: _burden(standing, prompt_tokens)).worker
    return free[0].worker if free else None


def places(capacity: Capacity) -> int:
    """How many requests a worker is handed at most."""
    return capacity.max_sequences + 1 + capacity.max_sequences // 16


def _burden(standing: Standing[W], prompt_tokens: int) -> tuple[bool, float]:
    """Whether it would be crowded, and its work, once the request were there."""
    capacity = standing.capacity
    new_tokens, sequences = max(0, prompt_tokens - standing.held_tokens), standing.sequences + 1
    page_room = capacity.full_pages * capacity.page_tokens
    crowded = sequences > capacity.max_sequences or standing.tokens + new_tokens > page_room
    context = standing.tokens + prompt_tokens  # shared pages are read once for each sequence
    work = standing.unread_tokens + new_tokens + SEQUENCE_TOKENS * sequences + CONTEXT_WEIGHT * context
    return crowded, work / capacity.max_sequences


def may_wait(*, waiting: int, waiting_of_key: int, wanted: int, max_waiting: int) -> bool:
    """Whether the queue has room for `wanted` more of a key.

    A key may have KEY_SHARE places for each free one (the dynamic threshold of Choudhury and Hahne, 1998): alone three
    quarters of the queue, and less the more keys fill it. So somebody new always finds a place.
    """
    free = max_waiting - waiting - (wanted - 1)
    return wanted == 0 or (free > 0 and waiting_of_key + wanted - 1 < KEY_SHARE * free)
