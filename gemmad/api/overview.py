"""What `GET /status` on the control socket tells, field by field. docs/control.md lists it.

The daemon fills it in, `gemmad status` reads it: a field may be added, and none changes its meaning. Times are in
seconds before or after the answer, so that no clock has to agree with another.
"""

from __future__ import annotations

from msgspec import Struct

from gemmad.api.services import Trouble
from gemmad.dispatch.listing import Listed
from gemmad.generation import Capacity, EngineLoad, MemoryRow
from gemmad.supervisor.tally import WorkerTotals


class PendingSetting(Struct, frozen=True):
    """A setting that the configuration has and the daemon does not."""

    key: str
    until: str
    """What has to start anew for it: recycle (the workers) or restart (the daemon)."""


class Reload(Struct, frozen=True, kw_only=True):
    """How the last reload of the configuration ended. Keys only: a value may be a secret."""

    ok: bool
    seconds_ago: float
    errors: tuple[str, ...] = ()
    """Why it was refused, or what a worker did not get ready with, one line each."""
    applied: tuple[str, ...] = ()
    """Keys that it changed, and what else ("API keys")."""
    rolling: tuple[str, ...] = ()
    """Keys that one worker tries before all get them."""
    pending: tuple[PendingSetting, ...] = ()


class SettingDiff(Struct, frozen=True):
    """A setting that the files have otherwise than the daemon; values as TOML writes them, None: not set."""

    key: str
    running: str | None
    wanted: str | None
    when: str
    """What puts it in force: live and recycle the next reload, trying a worker that tries it now, restart the daemon's
    next start."""


class ConfigDiff(Struct, frozen=True):
    """The answer to `GET /config/diff`."""

    settings: tuple[SettingDiff, ...] = ()
    errors: tuple[str, ...] = ()
    """Why the files cannot be taken."""


class Configuration(Struct, frozen=True, kw_only=True):
    """Where the settings come from."""

    path: str | None
    """None: no file, the defaults are in force."""
    reload: Reload | None
    """None before the first."""


class Requests(Struct, frozen=True, kw_only=True):
    """How many requests are where, and since the daemon's start."""

    running: int
    waiting: int
    total: int
    refused: int
    finished: int
    failed: int
    abandoned: int
    failovers: int
    """Times that one went on at another worker."""
    quarantined: int
    """Failed ones that were found out to be what workers died of."""


class Tokens(Struct, frozen=True, kw_only=True):
    """Since the daemon's start, and the rate of the last seconds."""

    prompt: int
    """Of finished requests."""
    generated: int
    per_second: float


class WorkerOverview(Struct, frozen=True, kw_only=True):
    """One worker."""

    name: str
    device: str
    gpu: str | None
    """UUID of its GPU."""
    state: str
    """One of docs/lifecycle.md."""
    drained: bool
    """It was told to go, and stays away until it is resumed."""
    recycling: bool
    """A renewal of it was asked for or is under way."""
    state_seconds: float
    """How long it has been in its state."""
    life: int
    pid: int | None
    stage: str | None
    """What it loads, or waits for."""
    progress: float | None
    """Of that stage, 0 to 1."""
    waits_for: str | None
    """What it lacks, in words."""
    requests: int
    """That its latest life was handed."""
    kv_usage: float | None
    """Of the fuller of its two page pools, 0 to 1."""
    load: EngineLoad | None
    """What it says with each heartbeat."""
    capacity: Capacity | None
    memory: tuple[MemoryRow, ...]
    """Its plan as it came out."""
    faults: float
    """What the restart budget is held against."""
    last_error: str | None
    """Why its last life ended that should not have."""
    retry_in_seconds: float | None
    """When its next life begins by itself."""
    next_recycle_in_seconds: float | None
    """When the clock renews it, if nothing else comes first."""
    last_recycle: str | None
    """Why it was renewed the last time, and how that went."""
    successor: WorkerOverview | None
    """Its next life, which gets ready beside it."""
    above_baseline_bytes: int | None = None
    """What it holds of its GPU beyond what it had when it was ready; None on a CPU, and before."""
    totals: WorkerTotals = WorkerTotals()
    """Of all its lives since the daemon's start; `load` is of the latest alone."""


class Overview(Struct, frozen=True, kw_only=True):
    """The daemon."""

    version: str
    pid: int
    uptime_seconds: float
    state: str
    """As in `GET /health`."""
    degraded: bool
    """Whether anything is missing: requests are not answered, or a worker that is wanted is not ready."""
    url: str
    models: tuple[str, ...]
    max_context: int | None
    config: Configuration
    requests: Requests
    tokens: Tokens
    workers: tuple[WorkerOverview, ...]
    checkpoint: str | None = None
    """The folder of the model that is served, or waited for."""
    trouble: Trouble | None = None
    """Why there is no model."""


class RequestList(Struct, frozen=True):
    """The answer to `GET /requests`, and to a cancellation: those that were cancelled, as they were."""

    requests: tuple[Listed, ...]


class Asked(Struct, frozen=True):
    """The answer to drain, resume and recycle: those that were asked, as they were at that moment."""

    workers: tuple[WorkerOverview, ...]
