"""From what was noted to what is told. Pure."""

from __future__ import annotations

import bisect
from collections.abc import Mapping, Sequence

from msgspec import Struct


class Figures(Struct, frozen=True, kw_only=True):
    """One measurement."""

    seconds: float
    tokens: int
    """That clients received in that time."""
    reads: int
    """Pieces in which they came off the sockets."""
    daemon_cpu_seconds: float
    client_cpu_seconds: float
    workers_cpu_seconds: float
    late: tuple[float, ...]
    """Seconds from a worker's word to the client's receipt, for each token."""

    def row(self) -> dict[str, str]:
        """In words."""
        per_token = self.daemon_cpu_seconds / self.tokens * 1e6
        late = sorted(self.late)
        return {
            "tokens a second": f"{self.tokens / self.seconds:.0f}",
            "daemon's CPU": f"{per_token:.1f} µs a token ({self.daemon_cpu_seconds / self.seconds:.0%} of a core)",
            "added latency": "p50 {:.2f} ms, p99 {:.2f} ms".format(
                *(1e3 * late[min(len(late) - 1, int(share * len(late)))] for share in (0.5, 0.99))
            ),
            "client's CPU": f"{self.client_cpu_seconds / self.tokens * 1e6:.1f} µs a token",
            "workers' CPU": f"{self.workers_cpu_seconds / self.tokens * 1e6:.1f} µs a token",
            "reads a token": f"{self.reads / self.tokens:.2f}",
        }


class Word(Struct, frozen=True):
    """What a token's text tells."""

    worker: str
    index: int
    """Of the step, but for multiples of how many words there are."""


def lateness(
    received_at: float, word: Word, *, stamps: Mapping[str, Sequence[float]], counts: Mapping[str, int], words: int
) -> float:
    """Seconds since the worker said it: in the last of its steps with that word. `counts` are its steps in all."""
    times = stamps[word.worker]
    last = bisect.bisect_right(times, received_at, hi=counts[word.worker]) - 1
    step = last - (last - word.index) % words
    return received_at - times[step]


def contents(data: bytes) -> tuple[list[bytes], bytes]:
    """Texts of the deltas in a piece of a stream, and the end of it that may be the beginning of another."""
    found: list[bytes] = []
    at = 0
    while (begin := data.find(CONTENT, at)) >= 0:
        end = data.find(b'"', begin + len(CONTENT))
        if end < 0:
            return found, data[begin:]
        if end > begin + len(CONTENT):
            found.append(data[begin + len(CONTENT) : end])
        at = end
    return found, data[max(at, len(data) - len(CONTENT) + 1) :]


CONTENT = b'"content":"'
