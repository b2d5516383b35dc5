"""What the daemon, a zygote and its spares say to each other, as frames of the wire.

    zygote:   ─Warm─▶ daemon   once it has imported everything       ◀─Fork─   a spare is wanted; beside it, its socket
    spare:    ─Born─▶ daemon   it leaves the zygote's process group  ◀─Become─ it is a worker from now on; beside it
              ─Idle─▶          it has left it, and waits                       the worker's socket and its output

A zygote that cannot fork safely says Unfit and ends.
"""

from __future__ import annotations

from gemmad.protocol.messages import Message


class Fork(Message, frozen=True):
    """Make a spare."""


class Warm(Message, frozen=True):
    """It is ready to fork."""

    protocol: int
    """What its workers will speak."""
    seconds: float


class Unfit(Message, frozen=True):
    """What it has imported does not stand a fork."""

    reason: str


class Born(Message, frozen=True):
    """From here on it is killed and reaped by its number, and not as one of the zygote's group."""

    pid: int


class Idle(Message, frozen=True):
    """From here on it can be made a worker."""


class Become(Message, frozen=True):
    """Run the worker's program."""

    env: dict[str, str]
    """All of its environment."""


FromZygote = Warm | Unfit
FromSpare = Born | Idle
