"""What all lives on one seat came to since the daemon's start: a worker that dies takes none of it along.

A worker counts from its own start and tells with each heartbeat. What it did after its last one is lost with it, and so
the sums can be a heartbeat short; they never fall.
"""

from __future__ import annotations

from collections.abc import Callable

from msgspec import Struct

from gemmad.generation import EngineLoad
from gemmad.supervisor.ending import Cause
from gemmad.supervisor.recycle import Why

TRIGGERS = {why: why.name.lower() for why in Why}
"""Why a life was renewed, as one word."""


class Work(Struct, frozen=True, kw_only=True):
    """What one life or several have done."""

    requests: int = 0
    """That they were handed."""
    steps: int = 0
    generated_tokens: int = 0
    prefilled_tokens: int = 0
    """Computed of prompts."""
    prompt_tokens: int = 0
    """Of prompts that were begun, and of those"""
    cached_tokens: int = 0
    """the ones that a prefix cache held."""
    preemptions: int = 0

    def plus(self, other: Work) -> Work:
        """Both together."""
        return Work(**{name: getattr(self, name) + getattr(other, name) for name in self.__struct_fields__})


class WorkerTotals(Work, frozen=True, kw_only=True):
    """Of all lives on one seat. Each word that there is has a count."""

    lives: int = 0
    """That were begun."""
    restarts: dict[str, int] = {}
    """Lives that ended as they should not have, by cause."""
    recycles: dict[str, int] = {}
    """Renewals whose new life got ready, by trigger, and those"""
    failed_recycles: dict[str, int] = {}
    """whose new life did not."""


def work_of(load: EngineLoad | None, *, requests: int) -> Work:
    """Of one life, from its last heartbeat."""
    load = load or EngineLoad()
    return Work(
        requests=requests,
        steps=load.steps,
        generated_tokens=load.generated_tokens,
        prefilled_tokens=load.prefilled_tokens,
        prompt_tokens=load.prompt_tokens,
        cached_tokens=load.cached_tokens,
        preemptions=load.preemptions,
    )


class Tally:
    """One for each name of a seat, for as long as the daemon runs. Written by those who live there and by the pool."""

    def __init__(self) -> None:
        self._lives = 0
        self._over = Work()
        self._alive: list[Callable[[], Work]] = []
        self._restarts = dict.fromkeys(Cause, 0)
        self._recycles = dict.fromkeys(Why, 0)
        self._failed_recycles = dict.fromkeys(Why, 0)

    @property
    def lives(self) -> int:
        """How many were begun."""
        return self._lives

    def next_number(self) -> int:
        """For a life that begins."""
        self._lives += 1
        return self._lives

    def begin(self, work: Callable[[], Work]) -> None:
        """A life is there, which tells what it has done so far; until `end` with the same."""
        self._alive.append(work)

    def end(self, work: Callable[[], Work]) -> None:
        """It is over; what it did stays."""
        self._alive.remove(work)
        self._over = self._over.plus(work())

    def note_restart(self, cause: Cause) -> None:
        """A life ended as it should not have."""
        self._restarts[cause] += 1

    def note_recycle(self, why: Why, *, worked: bool) -> None:
        """A renewal is over; whether the new life got ready."""
        (self._recycles if worked else self._failed_recycles)[why] += 1

    def totals(self) -> WorkerTotals:
        """As of now."""
        work = self._over
        for told in self._alive:
            work = work.plus(told())
        return WorkerTotals(
            **{name: getattr(work, name) for name in work.__struct_fields__},
            lives=self._lives,
            restarts={cause.value: count for cause, count in self._restarts.items()},
            recycles={TRIGGERS[why]: count for why, count in self._recycles.items()},
            failed_recycles={TRIGGERS[why]: count for why, count in self._failed_recycles.items()},
        )
