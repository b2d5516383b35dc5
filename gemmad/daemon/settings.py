"""From the configuration to what one worker is told to build."""

from __future__ import annotations

from pathlib import Path

from gemmad.config.schema import Config
from gemmad.generation import EngineSettings, usual_page_tokens
from gemmad.supervisor.seat import Seat


def engine_settings(
    config: Config, seat: Seat, *, checkpoint: Path | None = None, coded_copies: Path | None = None
) -> EngineSettings:
    """What the worker on this seat is to build. Workers on one GPU share its memory evenly. `checkpoint` is the folder
    that `model.path` means; None takes that path itself. `coded_copies` is where weights that were coded at load are
    kept for the next start; None keeps none."""
    assert config.model.path is not None
    per_gpu = config.workers.per_gpu if seat.gpu is not None else 1
    return EngineSettings(
        checkpoint=str((checkpoint or config.model.path).absolute()),
        device=seat.device,
        dtype=config.engine.dtype,
        max_context=config.engine.max_context,
        max_sequences=config.engine.max_sequences,
        max_step_tokens=config.engine.max_step_tokens,
        page_tokens=config.engine.page_tokens or usual_page_tokens(seat.device),
        kv_bytes=config.memory.kv_bytes,
        memory_fraction=config.memory.fraction / per_gpu,
        reserve_bytes=config.memory.reserve,
        cpu_threads=seat.threads,
        attention=config.engine.attention,
        prefix_cache=config.engine.prefix_cache,
        weights=config.engine.weights,
        kv=config.engine.kv,
        coded_copies=None if coded_copies is None else str(coded_copies.absolute()),
    )
