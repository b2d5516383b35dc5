"""What share of each memory is taken, and what follows from it in words.

An engine takes all that it planned at its start, so "90 % of the GPU is reserved" is no news. What is news:

- `kv`: used of the fuller page pool, against all of it. At 1 requests are set back, or wait.
- `vram`: taken of what the plans of its workers leave of a GPU, `(used - planned) / (total - planned)`. 0 while all
  keep to their plans, 1 when nothing is free. Not known while a worker is renewed, whose plan is not made yet.
- `drift`: what a worker has taken beyond what it had when it was ready, against `recycle.vram_drift`.
- `fragmentation`: what lies idle of what it has taken, against `recycle.fragmentation`.
- `host`: of a worker its resident memory against `recycle.host_rss`; of no worker the host's memory, or its cgroup's.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from msgspec import Struct

from gemmad.config.schema import RecycleSection
from gemmad.monitor.sample import MemorySample
from gemmad.planning.sizes import format_bytes

ABOUTS = ("kv", "vram", "drift", "fragmentation", "host")


class Measure(Struct, frozen=True, kw_only=True):
    """One memory at one moment."""

    about: str
    """One of `ABOUTS`."""
    worker: str | None
    """None: the host's."""
    share: float
    """Not below 0; above 1 where a limit is passed."""
    words: str
    action: str


class HostMemory(Struct, frozen=True):
    """The host's memory, or that of the cgroup which is closer to its limit."""

    total_bytes: int
    available_bytes: int


def measures(
    samples: Sequence[MemorySample], *, recycle: RecycleSection, host: HostMemory | None = None
) -> tuple[Measure, ...]:
    """All that can be told of samples of one moment."""
    found: list[Measure] = []
    for sample in samples:
        found += [each for each in (_kv(sample), *_growth(sample, recycle)) if each is not None]
    found += _gpus(samples)
    if host is not None and host.total_bytes > 0:
        found.append(_host(host))
    return tuple(found)


def _kv(sample: MemorySample) -> Measure | None:
    share = sample.kv_usage
    if share is None:
        return None
    if sample.preemptions:
        suffered = f", and {sample.preemptions} requests of this life were set back for lack of pages"
    else:
        suffered = ""
    of = "" if sample.kv_bytes is None else f" of {format_bytes(sample.kv_bytes)}"
    return Measure(
        about="kv",
        worker=sample.worker,
        share=share,
        words=f"{sample.worker} uses {share:.0%}{of} of KV pages{suffered}",
        action="give it more pages (memory.kv_bytes, memory.fraction), or fewer requests at a time "
        "(engine.max_sequences); when pages run out requests are set back and computed again",
    )


def _growth(sample: MemorySample, recycle: RecycleSection) -> Iterator[Measure]:
    """What a renewal cures: its limits are those of [recycle]."""
    name, above, idle = sample.worker, sample.above_baseline_bytes, sample.fragmentation
    action = f"beyond the limit it is renewed by itself; `gemmad recycle {name}` does so at a moment of your choice"
    if recycle.vram_drift is not None and above is not None:
        words = (
            f"{name} has taken {format_bytes(above)} more of its GPU than when it was ready, and "
            f"recycle.vram_drift allows {format_bytes(recycle.vram_drift)}"
        )
        share = max(0.0, above / recycle.vram_drift)
        yield Measure(about="drift", worker=name, share=share, words=words, action=action)
    if recycle.fragmentation is not None and idle is not None:
        words = (
            f"{idle:.0%} of what {name} has taken on its GPU lies idle, and recycle.fragmentation allows "
            f"{recycle.fragmentation:.0%}"
        )
        share = max(0.0, idle / recycle.fragmentation)
        yield Measure(about="fragmentation", worker=name, share=share, words=words, action=action)
    if recycle.host_rss is not None and sample.host_rss_bytes:
        words = (
            f"the process of {name} has {format_bytes(sample.host_rss_bytes)} of host memory, and recycle.host_rss "
            f"allows {format_bytes(recycle.host_rss)}"
        )
        share = sample.host_rss_bytes / recycle.host_rss
        yield Measure(about="host", worker=name, share=share, words=words, action=action)


def _gpus(samples: Iterable[MemorySample]) -> Iterator[Measure]:
    """One for each GPU, by the first of its workers: one cause, one alert."""
    seen: set[str] = set()
    for sample in samples:
        total, used, planned = sample.gpu_total_bytes, sample.gpu_used_bytes, sample.gpu_planned_bytes
        if sample.gpu is None or sample.gpu in seen or total is None or used is None or planned is None:
            continue
        if sample.planned_bytes is None:  # drained, or not there yet: the GPU is somebody else's meanwhile
            continue
        seen.add(sample.gpu)
        left, taken = total - planned, max(0, used - planned)
        if left <= 0:
            continue
        yield Measure(
            about="vram",
            worker=sample.worker,
            share=taken / left,
            words=f"{format_bytes(taken)} of the {format_bytes(left)} that the plans leave of the GPU of "
            f"{sample.worker} are taken, and {format_bytes(max(0, total - used))} are free",
            action="see who holds them (nvidia-smi); if they are to stay, lower memory.fraction",
        )


def _host(host: HostMemory) -> Measure:
    share = min(1.0, max(0.0, 1.0 - host.available_bytes / host.total_bytes))
    return Measure(
        about="host",
        worker=None,
        share=share,
        words=f"{share:.0%} of {format_bytes(host.total_bytes)} of host memory is taken, "
        f"{format_bytes(host.available_bytes)} is left",
        action="see who holds it (`ps aux --sort=-rss`); recycle.host_rss renews workers that have grown, and what "
        "runs out of memory is killed by the kernel",
    )
