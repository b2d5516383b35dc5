"""What a chaos run tells at its end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from gemmad.api.overview import Overview
from tests.chaos.asking import Results


def table(results: Results, made: Mapping[str, int], *, seconds: float, failovers: int) -> str:
    """A few lines for a terminal."""
    rows = [
        ("requests", f"{results.requests} in {seconds:.0f} s, {results.left} left by their clients"),
        ("failed or wrong", str(len(results.faults))),
        ("tokens", f"{results.tokens} ({results.tokens / seconds:.0f} a second)"),
        *((kind, str(count)) for kind, count in sorted(made.items())),
        ("fail-overs", str(failovers)),
        ("latency", told(results.seconds)),
        ("longest silence", told(results.silences)),
    ]
    return "\n".join(f"{name:16} {value}" for name, value in rows)


def told(seconds: Sequence[float]) -> str:
    """Median and tail."""
    if not seconds:
        return "none"
    shares = (percentile(seconds, share) for share in (0.5, 0.99, 1))
    return "p50 {:.2f} s, p99 {:.2f} s, most {:.2f} s".format(*shares)


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that so large a share of them does not exceed."""
    ordered = sorted(values)
    return ordered[max(0, -int(-share * len(ordered) // 1) - 1)]


def unsettled(overview: Overview) -> list[str]:
    """What there is that an idle daemon with two workers does not have, in words."""
    found = [] if overview.state == "ready" and not overview.degraded else [f"the daemon is {overview.state}"]
    if overview.requests.running or overview.requests.waiting:
        found.append(f"{overview.requests.running} requests are running, {overview.requests.waiting} waiting")
    for worker in overview.workers:
        if worker.state != "ready" or worker.recycling or worker.successor is not None:
            found.append(f"{worker.name} is {worker.state}{', being renewed' if worker.recycling else ''}")
        elif worker.load is None:
            found.append(f"{worker.name} has said nothing yet")
        else:
            load = worker.load
            held = {
                name: getattr(load, name) for name in ("running", "waiting", "full_pages_used", "sliding_pages_used")
            }
            found += [f"{worker.name}: {name} {count}" for name, count in held.items() if count]
    return found


def miscounted(overview: Overview) -> list[str]:
    """What the daemon's own counts say went wrong, once it is idle."""
    requests = overview.requests
    found = [
        f"the daemon counts {name} {count}"
        for name in ("refused", "failed", "quarantined")
        if (count := getattr(requests, name))
    ]
    if requests.total != requests.finished + requests.abandoned + requests.failed + requests.refused:
        found.append(f"the daemon has lost count: {requests}")
    return found
