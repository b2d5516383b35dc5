"""What Prometheus is told. Durations are observed as they happen; everything else is read when somebody asks."""

from gemmad.metrics.reading import AlertReading, ConfigReading, GpuReading, Reading, RoomReading, WorkerReading
from gemmad.metrics.registry import Gaps, Metrics

__all__ = [
    "AlertReading",
    "ConfigReading",
    "Gaps",
    "GpuReading",
    "Metrics",
    "Reading",
    "RoomReading",
    "WorkerReading",
]
