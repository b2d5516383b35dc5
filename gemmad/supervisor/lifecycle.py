"""The life of a worker as one table, without clocks, processes or sockets.

A worker is a *seat* (a place on a device) on which processes are started one after another; each of them is a *life*,
and lives are numbered. One actor for each worker is the only writer of its state, and this table holds every move that
it may make; any other is a bug, and raises.

Three rules keep races out:

- **Reports carry the life they are about.** A frame, an end of file or an exit that belongs to an earlier life is
  dropped by its number.
- **Deadlines are computed from the state, never kept beside it.** The actor asks the state it is in how long it may
  last; a state that was left has no timer that could go off late.
- **Restart is no transition.** A crash ends in `BACKOFF` (or in `FAILED`, once the restart budget is spent), everything
  that was asked for ends in `STOPPED`, and the pool starts whatever is wanted with the settings of that moment.
  Recycles, changed settings and crashes are therefore one path.

`READY` means that it has served: its warm-up ran. `LEAVE` is a worker that says or shows that it goes by itself; its
exit, which tells why, is on its way. In `STOPPING`, `HUNG` and `KILLING` nothing that it says counts any more, and its
requests have already gone elsewhere.

During a renewal a seat has two workers for a while: the one that sits there, and the one that will. Each moves by this
table on its own.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from types import MappingProxyType


class State(enum.Enum):
    """Where a worker stands."""

    STOPPED = "stopped"
    """No process, and none is wanted until someone says so."""
    WAITING = "waiting"
    """It is wanted, and its GPU, or memory on it, is not there yet; no process."""
    STARTING = "starting"
    """A process loads; every sign of life prolongs its time."""
    READY = "ready"
    """It has served its warm-up and takes requests."""
    DRAINING = "draining"
    """It finishes what it has and gets nothing new."""
    STOPPING = "stopping"
    """It was told to exit, or goes by itself."""
    HUNG = "hung"
    """It was silent for too long and writes its stacks into the log, if it still can."""
    KILLING = "killing"
    """SIGKILL was sent; the kernel has the word."""
    BACKOFF = "backoff"
    """It crashed; the next life begins after a pause."""
    FAILED = "failed"
    """It crashed too often, or its settings cannot work."""


class Event(enum.Enum):
    """What makes a worker move."""

    WAIT = "wait"
    """Its next life is wanted, on a GPU that has to be looked at first."""
    START = "start"
    """A process was spawned for its next life."""
    SERVED = "served"
    """Its warm-up requests were answered."""
    DRAIN = "drain"
    STOP = "stop"
    LEAVE = "leave"
    """It hung up, or said its last words."""
    HANG = "hang"
    """It gave no sign of life for too long."""
    KILL = "kill"
    """It hung, overran a deadline or broke the protocol."""
    ENDED = "ended"
    """Its process is gone as it was asked to."""
    CRASHED = "crashed"
    """Its process is gone and should not be."""
    GAVE_UP = "gave up"
    """The same, and trying again soon is pointless."""


class IllegalMoveError(AssertionError):
    """A move that is not in the table: a bug in the actor."""

    def __init__(self, state: State, event: Event) -> None:
        super().__init__(f"a {state.value} worker cannot take the event {event.value!r}")


TRANSITIONS: Mapping[tuple[State, Event], State] = MappingProxyType(
    {
        (State.STOPPED, Event.START): State.STARTING,
        (State.STOPPED, Event.WAIT): State.WAITING,
        (State.WAITING, Event.START): State.STARTING,
        (State.WAITING, Event.STOP): State.STOPPED,
        # -- loading
        (State.STARTING, Event.SERVED): State.READY,
        (State.STARTING, Event.STOP): State.STOPPING,
        (State.STARTING, Event.LEAVE): State.STOPPING,
        (State.STARTING, Event.HANG): State.HUNG,
        (State.STARTING, Event.KILL): State.KILLING,
        (State.STARTING, Event.CRASHED): State.BACKOFF,
        (State.STARTING, Event.GAVE_UP): State.FAILED,
        # -- serving
        (State.READY, Event.DRAIN): State.DRAINING,
        (State.READY, Event.STOP): State.STOPPING,
        (State.READY, Event.LEAVE): State.STOPPING,
        (State.READY, Event.HANG): State.HUNG,
        (State.READY, Event.KILL): State.KILLING,
        (State.READY, Event.CRASHED): State.BACKOFF,
        (State.READY, Event.GAVE_UP): State.FAILED,
        # -- finishing
        (State.DRAINING, Event.STOP): State.STOPPING,
        (State.DRAINING, Event.LEAVE): State.STOPPING,
        (State.DRAINING, Event.HANG): State.HUNG,
        (State.DRAINING, Event.KILL): State.KILLING,
        (State.DRAINING, Event.ENDED): State.STOPPED,
        (State.DRAINING, Event.CRASHED): State.BACKOFF,
        (State.DRAINING, Event.GAVE_UP): State.FAILED,
        # -- going
        (State.STOPPING, Event.KILL): State.KILLING,
        (State.STOPPING, Event.ENDED): State.STOPPED,
        (State.STOPPING, Event.CRASHED): State.BACKOFF,
        (State.STOPPING, Event.GAVE_UP): State.FAILED,
        (State.HUNG, Event.KILL): State.KILLING,
        (State.HUNG, Event.ENDED): State.STOPPED,
        (State.HUNG, Event.CRASHED): State.BACKOFF,
        (State.HUNG, Event.GAVE_UP): State.FAILED,
        (State.KILLING, Event.ENDED): State.STOPPED,
        (State.KILLING, Event.CRASHED): State.BACKOFF,
        (State.KILLING, Event.GAVE_UP): State.FAILED,
        # -- waiting for the next life
        (State.BACKOFF, Event.START): State.STARTING,
        (State.BACKOFF, Event.WAIT): State.WAITING,
        (State.BACKOFF, Event.STOP): State.STOPPED,
        (State.FAILED, Event.START): State.STARTING,
        (State.FAILED, Event.WAIT): State.WAITING,
        (State.FAILED, Event.STOP): State.STOPPED,
    }
)

AT_REST = frozenset({State.STOPPED, State.WAITING, State.BACKOFF, State.FAILED})
"""No process is there."""
SPEAKING = frozenset({State.STARTING, State.READY, State.DRAINING})
"""What the process says counts."""


def after(state: State, event: Event) -> State:
    """The state that follows. Raises IllegalMoveError when the table has no such move."""
    try:
        return TRANSITIONS[state, event]
    except KeyError:
        raise IllegalMoveError(state, event) from None


def diagram() -> str:
    """The table as a Mermaid state diagram, one line for each pair of states."""
    labels: dict[tuple[State, State], list[str]] = {}
    for (state, event), following in TRANSITIONS.items():
        labels.setdefault((state, following), []).append(event.value)
    lines = ["stateDiagram-v2", f"    [*] --> {State.STOPPED.name}"]
    lines += [
        f"    {state.name} --> {following.name}: {', '.join(events)}" for (state, following), events in labels.items()
    ]
    return "\n".join(lines) + "\n"
