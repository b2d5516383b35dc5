"""Where one ticket was, and when: moments that the dispatcher notes as it goes, none of them for each token."""

from __future__ import annotations

import dataclasses

LONGEST = 16
"""Stays that are kept; after so many moves the middle of the story is left out."""


@dataclasses.dataclass(eq=False, slots=True, kw_only=True)
class Stay:
    """One hand-over to one life of a worker. Times are on the dispatcher's clock."""

    worker: str
    life: int
    pid: int
    number: int
    """Of the submission, as the worker knows it."""
    began_at: float
    step_before: int
    """The last step that the worker had told of when it got the request."""
    said_before: int
    """Tokens of the reply that it was given to go on after."""
    first_token_at: float | None = None
    first_step: int = 0
    """The step that gave the first token here."""
    cached_tokens: int = 0
    """Of prompt and reply, what the worker did not have to compute."""
    ended_at: float | None = None
    last_step: int = 0
    """The last step that the worker had told of when it was over here."""
    said_after: int = 0
    left: str = ""
    """Why it went on elsewhere; empty if it ended here."""
    lost: bool = False
    """It went on because the worker was gone."""


class Journey:
    """From admission to end: in the line, then at workers, one after another."""

    def __init__(self, now: float) -> None:
        self.submitted_at = now
        self.ended_at: float | None = None
        self.stays: list[Stay] = []
        self.queue_seconds = 0.0
        """That it waited for a worker, in all."""
        self._waits_since: float | None = now

    @property
    def handed_at(self) -> float | None:
        """When a worker got it, the last time."""
        return self.stays[-1].began_at if self.stays else None

    def arrive(self, stay: Stay) -> None:
        """A worker has it."""
        self._stop_waiting(stay.began_at)
        if len(self.stays) == LONGEST:
            del self.stays[LONGEST // 2]
        self.stays.append(stay)

    def hear_first(self, *, now: float, step: int, cached_tokens: int) -> None:
        """The worker has said its first token of it."""
        stay = self.stays[-1]
        stay.first_token_at, stay.first_step, stay.cached_tokens = now, step, cached_tokens

    def depart(self, *, now: float, step: int, said: int, left: str = "", lost: bool = False) -> None:
        """It is no longer with the worker; `left` tells why it goes on elsewhere."""
        stay = self.stays[-1]
        stay.ended_at, stay.last_step, stay.said_after, stay.left, stay.lost = now, step, said, left, lost
        self._waits_since = now

    def end(self, now: float) -> None:
        """It is over; if it is with a worker, it has departed before."""
        if self.stays and not self.stays[-1].left:
            self._waits_since = None
        self._stop_waiting(now)
        self.ended_at = now

    def _stop_waiting(self, now: float) -> None:
        if self._waits_since is not None:
            self.queue_seconds += now - self._waits_since
            self._waits_since = None
