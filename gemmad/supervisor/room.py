"""Whether a life can begin on its seat: pure choices over one look at the GPUs and at the host's memory.

A process that is gone may hold its GPU's memory for seconds more, until the driver has cleaned up, and for ever if it
hangs in the driver. A life that begins meanwhile fails over the lack, in words that blame the wrong one.
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from gemmad.supervisor.gpus import Gpu, Gpus, in_gib

RSS_MARGIN = 1.1
"""A second process beside the first needs what the first holds, and a little more while it loads."""


class Lack(Struct, frozen=True):
    """What keeps a life from beginning."""

    stage: Literal["gpu", "memory"]
    words: str


def lack_on(gpus: Gpus, uuid: str, *, fraction: float, planned_bytes: int | None) -> Lack | None:
    """What is missing for a life on this GPU, or None. See `needed_bytes`."""
    gpu = gpus.find(uuid)
    if gpu is None:
        why = f" ({gpus.problem})" if gpus.problem else ""
        return Lack("gpu", f"GPU {uuid} is not there{why}; found: {gpus}")
    needed, free = needed_bytes(gpu, fraction=fraction, planned_bytes=planned_bytes), gpu.free_bytes
    if needed is None or free is None or free >= needed:
        return None
    held = ", ".join(str(holder) for holder in gpu.holders) or "nobody that shows"
    return Lack("memory", f"GPU {gpu.label} has {in_gib(free)} free of {in_gib(needed)} needed; it is held by {held}")


def needed_bytes(gpu: Gpu, *, fraction: float, planned_bytes: int | None) -> int | None:
    """What a life takes: the plan of the last one, where that is known, and else all that the settings allow it. None
    where nobody counts."""
    if gpu.total_bytes is None:
        return None
    allowed = int(gpu.total_bytes * fraction)
    return allowed if planned_bytes is None else min(planned_bytes, allowed)


def fits_beside(*, rss_bytes: int, available_bytes: int | None) -> bool:
    """Whether the host's memory holds a second process like one that has `rss_bytes`; yes where nobody counts."""
    return available_bytes is None or rss_bytes * RSS_MARGIN <= available_bytes
