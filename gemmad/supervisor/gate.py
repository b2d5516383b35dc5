"""What a worker that waits for its GPU knows of it."""

from __future__ import annotations

from gemmad.logs import get_logger
from gemmad.supervisor.gpus import Gpus
from gemmad.supervisor.room import Lack, lack_on
from gemmad.supervisor.seat import Seat

log = get_logger("gemmad.supervisor")


class Gate:
    """From the wish for a life to its beginning, again and again. Memory is waited for with a deadline; a GPU that is
    not there without one, since nothing could begin on it."""

    def __init__(self, seat: Seat) -> None:
        self.lack: Lack | None = None
        self._seat = seat
        self._since = 0.0
        self._short_since = 0.0

    def close(self, *, now: float) -> None:
        """A life is wanted. What earlier looks saw does not count."""
        self.lack = None
        self._since = self._short_since = now

    def look(self, gpus: Gpus, *, at: float, now: float, fraction: float, planned_bytes: int | None) -> bool:
        """Whether the life can begin, after a look that began `at`. See `room.needed_bytes` for the last two."""
        if at < self._since:
            return False
        before = self.lack
        self.lack = lack_on(gpus, self._seat.gpu or "", fraction=fraction, planned_bytes=planned_bytes)
        if self.lack is None:
            return True
        if before is None or before.stage != self.lack.stage:
            self._short_since = now
            log.warning("worker waits", worker=self._seat.name, stage=self.lack.stage, reason=self.lack.words)
        return False

    def opens_at(self, timeout_seconds: float) -> float | None:
        """When the life begins whether its memory is back or not; None: not before somebody has seen its GPU."""
        if self.lack is None or self.lack.stage == "gpu":
            return None
        return self._short_since + timeout_seconds
