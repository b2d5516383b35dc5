"""Which picture is made ready next. Pure."""

from __future__ import annotations

import collections
from typing import Generic, Protocol, TypeVar


class Queued(Protocol):
    """What the lanes must know of a job."""

    @property
    def number(self) -> int:
        """Ascending in order of arrival."""

    @property
    def fetches(self) -> bool:
        """Whether it waits for a server somewhere."""


Q = TypeVar("Q", bound=Queued)


class Lanes(Generic[Q]):
    """First come, first served, in two lanes: pictures in hand, and pictures to fetch.

    A server that never answers holds a process until the job's time is over. So fetching may hold all processes but
    one, and pictures in hand are never stuck behind it. A single process serves both in order of arrival.
    """

    def __init__(self, processes: int) -> None:
        self._fetching_limit = max(1, processes - 1)
        self._in_hand: collections.deque[Q] = collections.deque()
        self._to_fetch: collections.deque[Q] = collections.deque()

    def __len__(self) -> int:
        return len(self._in_hand) + len(self._to_fetch)

    def push(self, job: Q) -> None:
        """Let a job wait."""
        self._lane(job).append(job)

    def discard(self, job: Q) -> None:
        """Let a job wait no more; one that does not wait is no error."""
        lane = self._lane(job)
        if job in lane:
            lane.remove(job)

    def take(self, *, fetching: int) -> Q | None:
        """The next job for a free process, while `fetching` others fetch."""
        lanes = [self._in_hand] if fetching >= self._fetching_limit else [self._in_hand, self._to_fetch]
        heads = [lane for lane in lanes if lane]
        if not heads:
            return None
        return min(heads, key=lambda lane: lane[0].number).popleft()

    def clear(self) -> list[Q]:
        """Every job that waits, which none does any more."""
        jobs = [*self._in_hand, *self._to_fetch]
        self._in_hand.clear()
        self._to_fetch.clear()
        return jobs

    def _lane(self, job: Q) -> collections.deque[Q]:
        return self._to_fetch if job.fetches else self._in_hand
