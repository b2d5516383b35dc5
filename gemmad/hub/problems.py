"""Why a model cannot be had from the hub, or not be let go; the message is for people and says what to do."""

from __future__ import annotations

from gemmad.errors import GemmadError


class PullError(GemmadError):
    """It did not work, and trying again would not help."""


class UnreachableError(PullError):
    """The network, the hub, or somebody else who pulls the same: later it may work."""


class NoAccessError(PullError):
    """The hub does not let us read it, or the disk does not let us write."""


class UnknownModelNameError(PullError):
    """The hub has no such model or revision."""


class UnsuitableError(PullError):
    """It is there, and nothing that gemmad can serve."""


class DiskFullError(PullError):
    """There is no room for it."""


class DamagedError(PullError):
    """What came is not what the hub says it has."""


class StoppedError(PullError):
    """Somebody asked for the end of it."""
