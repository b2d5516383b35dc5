"""What a request can expect that is not served: when to come back, in honest numbers."""

from __future__ import annotations

from msgspec import Struct

from gemmad.errors import QueueFullError, RequestFailedError, UnavailableError
from gemmad.supervisor.listener import Outlook

RETRY_AFTER_LIMITS = (1.0, 120.0)
"""Seconds; above the upper one the official SDKs do not retry at all."""
UNMEASURED_SECONDS = 10.0
"""How long a request takes, as long as none has been measured."""
UNKNOWN_WAIT_SECONDS = 10.0
"""When somebody will be ready, as long as nobody has said."""
MEMORY = 0.1
"""Weight of the latest measurement in a running mean."""


class ServiceTime(Struct, frozen=True):
    """Running mean of how long requests take at a worker, from hand-over to end."""

    seconds: float = UNMEASURED_SECONDS
    measured: bool = False

    def after(self, seconds: float) -> ServiceTime:
        """With one more measurement."""
        if not self.measured:
            return ServiceTime(seconds, measured=True)
        return ServiceTime(self.seconds + MEMORY * (seconds - self.seconds), measured=True)


def turn_in_seconds(service: ServiceTime, *, turns_before: int, running: int) -> float:
    """When a request that came now would have its turn, for Retry-After.

    By Little's law `running` requests that take `seconds` each end at running / seconds a second, over all workers, and
    one must end for its turn and for each one before.
    """
    return (turns_before + 1) * service.seconds / max(1, running)


def clamp_retry(seconds: float) -> float:
    """Within what clients honour."""
    least, most = RETRY_AFTER_LIMITS
    return min(most, max(least, seconds))


class Prospects:
    """What is known of how fast requests end, and whether there is someone to serve them."""

    def __init__(self) -> None:
        self.outlook = Outlook.LOADING
        self.wait_seconds = UNKNOWN_WAIT_SECONDS
        """Until somebody is ready, if nobody is."""
        self.service = ServiceTime()
        self._busiest = 1
        """The most that ever ran at a time."""

    def note_running(self, running: int) -> None:
        """So many run now."""
        self._busiest = max(self._busiest, running)

    def note_finished(self, seconds: float) -> None:
        """A request took so long at its worker."""
        self.service = self.service.after(seconds)

    def require_somebody(self) -> None:
        """Raise UnavailableError unless one that is not there now comes back soon."""
        if self.outlook is Outlook.NOBODY:
            raise self.unavailable("No worker is there to serve the request.")
        if self.outlook is Outlook.LOADING:
            raise self.unavailable("The model is still loading.")

    def queue_full(self, message: str, *, turns_before: int, running: int) -> QueueFullError:
        """Come back when it would have been your turn. While nobody runs (no worker is there), as many are expected
        to run again as ever did, once somebody is ready."""
        seconds = turn_in_seconds(self.service, turns_before=turns_before, running=running or self._busiest)
        if not running:
            seconds += self.wait_seconds
        return QueueFullError(message, retry_after_seconds=clamp_retry(seconds))

    def unavailable(self, message: str) -> UnavailableError:
        """Come back when somebody is ready."""
        return UnavailableError(message, retry_after_seconds=clamp_retry(self.wait_seconds))

    def nobody_left(self, *, begun: bool) -> RequestFailedError | UnavailableError:
        """All that one who waits can be told; `begun`: some of its reply was said."""
        return self.lost() if begun else self.unavailable("No worker is left.")

    def lost(self) -> RequestFailedError:
        """Its reply has begun, and nobody goes on with it."""
        return RequestFailedError("Its worker is gone, and no other came to go on with the reply.", code="worker_lost")
