"""What the lives on a seat leave to the next one."""

from __future__ import annotations

import dataclasses

from gemmad.config.schema import WorkersSection
from gemmad.generation import EngineSettings
from gemmad.protocol.messages import Ready
from gemmad.supervisor.restart import FaultKind, GiveUp, Record, Retry, judge

UNKNOWN_LOAD_SECONDS = 10.0
"""How long loading takes, as long as nobody knows."""


@dataclasses.dataclass
class History:
    """Written by one worker; another one on the same seat begins with a copy."""

    served: bool = False
    """Whether any life was ready."""
    settings: EngineSettings | None = None
    """Of the last life."""
    record: Record = dataclasses.field(default_factory=Record)
    last_error: str | None = None
    """Why the last life ended that should not have."""
    load_seconds: float | None = None
    """How long the last one loaded that got ready."""
    plan_bytes: int | None = None
    """What it had planned to take of its device."""

    def copy(self) -> History:
        """For a successor."""
        return dataclasses.replace(self)

    def begin(self, settings: EngineSettings) -> None:
        """A life begins. With other settings faults count anew: what went wrong does not count against these."""
        if settings != self.settings:
            self.record = Record()
            self.plan_bytes = None
        self.settings = settings

    def note_ready(self, ready: Ready, *, load_seconds: float) -> None:
        """It has served."""
        self.served = True
        self.load_seconds = load_seconds
        self.plan_bytes = sum(row.planned_bytes for row in ready.memory) or None

    def note_fault(
        self, kind: FaultKind, reason: str, *, now: float, section: WorkersSection, chance: float
    ) -> Retry | GiveUp:
        """It ended as it should not have; what follows."""
        self.last_error = reason
        self.record, decision = judge(self.record, kind, now=now, section=section, chance=chance)
        return decision

    def planned_bytes(self, settings: EngineSettings) -> int | None:
        """What a life with these settings will plan to take of its device, where the last one tells."""
        return self.plan_bytes if settings == self.settings else None

    def ready_in_seconds(self, *, elapsed: float | None, fraction: float | None) -> float:
        """A guess of how long it still loads, from the last time that it did or from its progress; `elapsed` is None
        before it begins."""
        load_seconds = self.load_seconds or UNKNOWN_LOAD_SECONDS
        if elapsed is None:
            return load_seconds
        if self.load_seconds is None and fraction:
            return elapsed * max(0.0, 1.0 - fraction) / fraction
        return max(1.0, load_seconds - elapsed)
