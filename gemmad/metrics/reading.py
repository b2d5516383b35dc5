"""What is read of the daemon at a scrape. Totals are since its start; what nobody knows is None and has no series."""

from __future__ import annotations

from msgspec import Struct


class WorkerReading(Struct, frozen=True, kw_only=True):
    """One worker, as of now. What it has done is the sum over its lives."""

    name: str
    state: str
    device: str = ""
    gpu_uuid: str = ""
    """Of its GPU, if it has one."""
    running: int = 0
    """Requests that it computes."""
    kv_usage_ratio: float | None = None
    """Of the fuller of its two page pools."""
    kv_pages: dict[str, int] = {}
    """How many there are, by pool, and of those"""
    kv_pages_used: dict[str, int] = {}
    """the ones that are used."""
    host_rss_bytes: int | None = None
    planned_bytes: int | None = None
    """On its device, the reserve included."""
    reserved_bytes: int | None = None
    """What its allocator has taken from the device, and of that"""
    allocated_bytes: int | None = None
    """what it has handed out."""
    above_baseline_bytes: int | None = None
    device_segments: int | None = None
    starts: int = 0
    requests: int = 0
    steps: int = 0
    generated_tokens: int = 0
    prefilled_tokens: int = 0
    preemptions: int = 0
    prompt_tokens: int = 0
    """Of prompts that it has begun, and of those"""
    cached_tokens: int = 0
    """the ones that its prefix cache held."""
    restarts: dict[str, int] = {}
    """By why a life ended."""
    recycles: dict[str, int] = {}
    """By trigger: renewals whose new life got ready, and those"""
    failed_recycles: dict[str, int] = {}
    """whose new life did not."""


class GpuReading(Struct, frozen=True, kw_only=True):
    """One GPU or MIG slice, as of its last look."""

    uuid: str
    label: str
    name: str
    utilisation: float | None = None
    memory_used_bytes: int | None = None
    memory_total_bytes: int | None = None
    power_watts: float | None = None
    power_limit_watts: float | None = None
    temperature_celsius: float | None = None


class RoomReading(Struct, frozen=True, kw_only=True):
    """Processes that do one kind of work beside the workers: images, grammars."""

    name: str
    busy: int = 0
    waiting: int = 0
    deaths: int = 0


class AlertReading(Struct, frozen=True, kw_only=True):
    """A threshold of memory that is crossed now."""

    level: str
    about: str
    worker: str = ""


class ConfigReading(Struct, frozen=True, kw_only=True):
    """How the daemon's settings stand to those that are written."""

    is_good: bool = True
    """Whether the last reload was taken, and nothing of it taken back."""
    reloaded_at: float = 0.0
    """When that was, in seconds since the epoch; 0 before the first."""
    taken: int = 0
    """Reloads so far, those that were not taken, and trials of settings that no worker got ready with:"""
    refused: int = 0
    taken_back: int = 0
    trying: int = 0
    """Settings that a worker tries now, and those that wait for the daemon's next start:"""
    waiting: int = 0


class Reading(Struct, frozen=True, kw_only=True):
    """The daemon, as of now."""

    version: str
    running: int = 0
    waiting: int = 0
    waiting_limit: int | None = None
    """Requests that may wait."""
    refused: int = 0
    prompt_tokens: int = 0
    generated_tokens: int = 0
    failovers: int = 0
    quarantined: int = 0
    workers: tuple[WorkerReading, ...] = ()
    gpus: tuple[GpuReading, ...] = ()
    rooms: tuple[RoomReading, ...] = ()
    alerts: tuple[AlertReading, ...] = ()
    config: ConfigReading = ConfigReading()
