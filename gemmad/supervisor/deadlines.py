"""How long a worker may stay as it is, and what happens then: pure, from the state that it is in."""

from __future__ import annotations

import enum

from msgspec import Struct

from gemmad.config.schema import WorkersSection
from gemmad.supervisor.lifecycle import State

LAST_WORDS_SECONDS = 1.0
"""After an exit, how long what is still in the wire is waited for."""
DUMP_SECONDS = 1.0
"""How long one that hangs is given to write its stacks."""
UNKILLABLE_SECONDS = 10.0
"""After SIGKILL; a process that stays hangs in the kernel, most likely in the GPU's driver."""


class Alarm(enum.Enum):
    """What happens at a deadline."""

    BEGIN = "begin"
    """The pause before the next life is over."""
    START_ALL_THE_SAME = "start all the same"
    """The GPU's memory did not come back."""
    EXAMINE = "examine"
    """It is silent."""
    STOP = "stop"
    """It did not finish draining."""
    TERMINATE = "terminate"
    KILL = "kill"
    WONDER = "wonder"
    """It survives SIGKILL."""
    END = "end"
    """What is left in the wire will not come."""


class Times(Struct, frozen=True, kw_only=True):
    """A worker as far as its deadlines depend on it; all on one clock."""

    state: State
    entered_at: float
    """When it entered its state."""
    looked_at: float
    """The same, or when it was last found to survive SIGKILL."""
    retry_at: float | None = None
    opens_at: float | None = None
    """When a life begins whether the GPU's memory is back or not."""
    heard_at: float | None = None
    """The last sign of life; None: no process."""
    drain_until: float | None = None
    terminated: bool = False
    exited_at: float | None = None


class Deadline(Struct, frozen=True):
    """When, what, and why in words."""

    at: float
    alarm: Alarm
    words: str = ""


def next_deadline(times: Times, section: WorkersSection) -> Deadline | None:
    """Until when things may stay as they are; None: until somebody says something."""
    if times.heard_at is None:
        return _of_waiting(times)
    if times.exited_at is not None:
        return Deadline(times.exited_at + LAST_WORDS_SECONDS, Alarm.END)
    match times.state:
        case State.HUNG:
            return Deadline(times.entered_at + DUMP_SECONDS, Alarm.KILL, "it hangs")
        case State.KILLING:
            return Deadline(times.looked_at + UNKILLABLE_SECONDS, Alarm.WONDER)
        case State.STOPPING:
            return _of_leaving(times, section)
        case _:
            return _of_silence(times, times.heard_at, section)


def _of_waiting(times: Times) -> Deadline | None:
    if times.state is State.WAITING:
        return None if times.opens_at is None else Deadline(times.opens_at, Alarm.START_ALL_THE_SAME)
    return None if times.retry_at is None else Deadline(times.retry_at, Alarm.BEGIN)


def _of_silence(times: Times, heard_at: float, section: WorkersSection) -> Deadline:
    if times.state is State.STARTING:
        late = f"no sign of life for {section.load_timeout:g} s while it loaded"
        return Deadline(heard_at + section.load_timeout, Alarm.EXAMINE, late)
    silent_at = heard_at + section.hang_timeout
    if times.drain_until is not None and times.drain_until < silent_at:
        return Deadline(times.drain_until, Alarm.STOP)
    return Deadline(silent_at, Alarm.EXAMINE, f"its step loop was silent for {section.hang_timeout:g} s")


def _of_leaving(times: Times, section: WorkersSection) -> Deadline:
    """A word at first, SIGTERM at half of the grace, SIGKILL at its end."""
    if times.terminated:
        late = f"not gone after {section.stop_grace:g} s"
        return Deadline(times.entered_at + section.stop_grace, Alarm.KILL, late)
    return Deadline(times.entered_at + section.stop_grace / 2, Alarm.TERMINATE)
