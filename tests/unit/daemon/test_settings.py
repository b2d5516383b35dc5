from __future__ import annotations

from pathlib import Path

from gemmad.config.schema import Config, EngineSection, MemorySection, ModelSection, WorkersSection
from gemmad.daemon.settings import engine_settings
from gemmad.generation import EngineSettings
from gemmad.supervisor.seat import Seat

CONFIG = Config(
    model=ModelSection(path=Path("/models/gemma")),
    engine=EngineSection(
        dtype="bfloat16",
        max_context=100,
        max_sequences=3,
        max_step_tokens=77,
        page_tokens=8,
        attention="torch",
        prefix_cache=False,
        weights="int4",
        kv="fp8",
    ),
    memory=MemorySection(fraction=0.8, reserve=5, kv_bytes=1 << 20),
    workers=WorkersSection(per_gpu=2),
)


def test_what_a_worker_is_told() -> None:
    """Every setting of the engine reaches its worker; workers on one GPU share its memory."""
    seat = Seat(name="gpu0.1", device="cuda:0", env={}, gpu="GPU-1")
    assert engine_settings(CONFIG, seat, coded_copies=Path("/cache/weights")) == EngineSettings(
        checkpoint="/models/gemma",
        device="cuda:0",
        dtype="bfloat16",
        max_context=100,
        max_sequences=3,
        max_step_tokens=77,
        page_tokens=8,
        kv_bytes=1 << 20,
        memory_fraction=0.4,
        reserve_bytes=5,
        cpu_threads=None,
        attention="torch",
        prefix_cache=False,
        weights="int4",
        kv="fp8",
        coded_copies="/cache/weights",
    )


def test_a_worker_on_the_cpu() -> None:
    """Its threads are its seat's, and it shares nothing."""
    settings = engine_settings(CONFIG, Seat(name="cpu0", device="cpu", env={}, threads=4))
    assert (settings.device, settings.cpu_threads, settings.memory_fraction) == ("cpu", 4, 0.8)
