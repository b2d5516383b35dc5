"""From settings to an engine: read, plan, allocate, fill. The only place of the worker that connects its parts."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import torch

from gemmad.engine.engine import Engine
from gemmad.engine.graphs import GraphRunner
from gemmad.engine.memory import allocate_pools, available_kv_bytes, plan_pages
from gemmad.engine.pages import PagePool
from gemmad.engine.recording import GraphRecorder, Recorder
from gemmad.engine.runner import EagerRunner, Runner
from gemmad.engine.scheduler import Limits, Scheduler
from gemmad.engine.vision import KEPT_PICTURES, PictureEncoder
from gemmad.errors import CheckpointError, MemoryPlanError
from gemmad.generation import Capacity, EngineSettings
from gemmad.kernels.ops import Ops, ops_for
from gemmad.media.spec import ImageSpec
from gemmad.models.config import ModelConfig, read_config
from gemmad.models.gemma3 import Gemma3
from gemmad.models.weights import Weights, load_weights

Progress = Callable[[str, float], None]


def build_engine(
    settings: EngineSettings, *, progress: Progress, overlap: bool | None = None, recorder: Recorder | None = None
) -> Engine:
    """Load and preallocate all that `settings` ask for; `progress` hears the stage and its share done.

    `overlap`: launch a step before the last one's tokens are known; None does so where the device works by itself.
    `recorder`: how steps are recorded for replay; None takes CUDA graphs on a GPU and records nothing on a CPU.

    Raises CheckpointError for a folder that cannot be served, MemoryPlanError for settings that do not fit.
    """
    torch.set_num_threads(settings.cpu_threads or len(os.sched_getaffinity(0)))
    config = read_config(Path(settings.checkpoint))
    device = torch.device(settings.device)
    _max_context(settings, config)  # before the weights: a slip in the settings should not cost minutes
    weights = load_weights(
        config, device=device, dtype=_dtype(settings, device), progress=lambda share: progress("weights", share)
    )
    return assemble(config, weights, settings, progress=progress, overlap=overlap, recorder=recorder)


def assemble(
    config: ModelConfig,
    weights: Weights,
    settings: EngineSettings,
    *,
    progress: Progress,
    overlap: bool | None = None,
    recorder: Recorder | None = None,
) -> Engine:
    """An engine over weights that are in place. Raises MemoryPlanError for settings that do not fit."""
    progress("memory", 0.0)
    device, dtype = weights.embedding.device, weights.embedding.dtype
    max_context = _max_context(settings, config)
    limits = Limits(
        max_sequences=settings.max_sequences,
        step_tokens=settings.max_step_tokens,
        page_tokens=settings.page_tokens,
        window=config.text.window,
        full_layers=any(config.text.full_layers),
        sliding_layers=not all(config.text.full_layers),
    )
    encoder = _encoder(config, weights, settings)
    plan = plan_pages(
        config.text,
        limits,
        kv_bytes=settings.kv_bytes
        or available_kv_bytes(device, fraction=settings.memory_fraction, reserve_bytes=settings.reserve_bytes),
        max_context=max_context,
        longest_chunk=max(settings.max_step_tokens, config.image_tokens),
        dtype=dtype,
    )
    pools = allocate_pools(config.text, plan, page_tokens=settings.page_tokens, device=device, dtype=dtype)
    ops = ops_for(device)
    model = Gemma3(config.text, weights, pools, ops)
    return Engine(
        config,
        Capacity(
            max_context=max_context,
            max_sequences=settings.max_sequences,
            max_step_tokens=settings.max_step_tokens,
            page_tokens=settings.page_tokens,
            full_pages=plan.full_pages,
            sliding_pages=plan.sliding_pages,
        ),
        runner=_runner(
            model, ops, limits, encoder, config=config, max_context=max_context, progress=progress, recorder=recorder
        ),
        scheduler=Scheduler(limits, PagePool(plan.full_pages), PagePool(plan.sliding_pages)),
        encoder=encoder,
        device=device,
        overlap=device.type == "cuda" if overlap is None else overlap,
    )


def _runner(
    model: Gemma3,
    ops: Ops,
    limits: Limits,
    encoder: PictureEncoder | None,
    *,
    config: ModelConfig,
    max_context: int,
    progress: Progress,
    recorder: Recorder | None,
) -> Runner:
    if recorder is None and model.device.type == "cuda":
        recorder = GraphRecorder(model.device)
    if recorder is None:
        return EagerRunner(model, ops, limits, encoder, device=model.device)
    longest_step = max(limits.step_tokens, limits.max_sequences + config.image_tokens)
    runner = GraphRunner(
        model,
        ops,
        limits,
        encoder,
        max_context=max_context,
        longest_step=longest_step,
        recorder=recorder,
    )
    runner.capture(lambda share: progress("graphs", share))
    return runner


def _dtype(settings: EngineSettings, device: torch.device) -> torch.dtype:
    if settings.dtype == "auto":
        return torch.float32 if device.type == "cpu" else torch.bfloat16
    return {"float32": torch.float32, "bfloat16": torch.bfloat16}[settings.dtype]


def _max_context(settings: EngineSettings, config: ModelConfig) -> int:
    trained = config.text.max_context
    if settings.max_context is not None and settings.max_context > trained:
        raise MemoryPlanError(f"engine.max_context is {settings.max_context}, the model was trained for {trained}")
    return settings.max_context or trained


def _encoder(config: ModelConfig, weights: Weights, settings: EngineSettings) -> PictureEncoder | None:
    if weights.tower is None:
        return None
    spec = ImageSpec.load(config.folder)
    if spec is None:
        raise CheckpointError(f"{config.folder}: a checkpoint with vision needs preprocessor_config.json")
    return PictureEncoder(
        weights.tower,
        spec,
        tokens=config.image_tokens,
        hidden_size=config.text.hidden_size,
        slots=max(KEPT_PICTURES, settings.max_step_tokens // config.image_tokens + 1),
        embedding=weights.embedding,
    )
