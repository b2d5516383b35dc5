"""From settings to an engine: read, plan, allocate, fill. The only place of the worker that connects its parts."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import msgspec
import torch

from gemmad.engine.engine import Engine
from gemmad.engine.graphs import GraphRunner
from gemmad.engine.memory import Ledger, allocate_pools, cap_allocator, read_device, shape_of
from gemmad.engine.pages import PagePool
from gemmad.engine.recording import GraphRecorder, Recorder
from gemmad.engine.runner import EagerRunner
from gemmad.engine.scheduler import Limits, Scheduler
from gemmad.engine.sequence import Grammars
from gemmad.engine.vision import PictureEncoder
from gemmad.errors import CheckpointError
from gemmad.generation import Capacity, EngineSettings
from gemmad.grammar import matcher
from gemmad.kernels.backends import allocate_scratch, find_backend, gather_capacity
from gemmad.kernels.ops import Ops, ops_for
from gemmad.kernels.pages import page_type
from gemmad.media.spec import ImageSpec
from gemmad.models.config import ModelConfig, read_config
from gemmad.models.copies import CodedCopies
from gemmad.models.gemma3 import Gemma3, KVPools
from gemmad.models.weights import Weights, load_weights
from gemmad.planning import budget
from gemmad.planning.budget import MemoryPlan
from gemmad.planning.coded import coded_formats
from gemmad.planning.formats import resolve
from gemmad.planning.shape import ModelShape
from gemmad.planning.step import longest_step, picture_slots
from gemmad.text.files import read_generation_config, read_model_config

Progress = Callable[[str, float], None]


def build_engine(
    settings: EngineSettings,
    *,
    progress: Progress,
    overlap: bool | None = None,
    recorder: Recorder | None = None,
    grammars: Grammars | None = None,
    on_plan: Callable[[MemoryPlan], None] = lambda _: None,
    copies: CodedCopies | None = None,
) -> Engine:
    """Load and preallocate all that `settings` ask for; `progress` hears the stage and its share done.

    `overlap`: launch a step before the last one's tokens are known; None does so where the device works by itself.
    `recorder`: how steps are recorded for replay; None takes CUDA graphs on a GPU and records nothing on a CPU.
    `grammars`: who compiles what replies are held to; None does so for the checkpoint's own vocabulary.
    `on_plan` hears where the memory will go, before anything is loaded.
    `copies`: where copies of coded weights are; None takes the settings' folder. The thread that writes one ends when
    it is done, with the process, or when its owner closes `copies`.

    Raises CheckpointError for a folder that cannot be served, MemoryPlanError for settings that do not fit, ConfigError
    for an attention backend that cannot be had.
    """
    torch.set_num_threads(settings.cpu_threads or _threads(os.environ.get("OMP_NUM_THREADS", "")))
    config = read_config(Path(settings.checkpoint))
    device = torch.device(settings.device)
    coded = coded_formats(config.folder)
    settings = _resolved(settings, device, shape_of(config, coded))
    # Before the weights: a slip in the settings should not cost minutes.
    ledger = Ledger(config, settings, read=partial(read_device, device), coded=coded)
    on_plan(ledger.plan)
    cap_allocator(device, ledger)
    weights = load_weights(
        config,
        device=device,
        dtype=_dtype(settings),
        format=settings.weights,
        copies=copies or (None if settings.coded_copies is None else CodedCopies(Path(settings.coded_copies))),
        progress=lambda share: progress("weights", share),
    )
    grammars = grammars or _grammars(config)
    how = _How(progress, overlap, recorder, grammars)
    return _assemble(config, weights, settings, ledger, how=how)


def assemble(
    config: ModelConfig,
    weights: Weights,
    settings: EngineSettings,
    *,
    progress: Progress,
    overlap: bool | None = None,
    recorder: Recorder | None = None,
    grammars: Grammars | None = None,
) -> Engine:
    """An engine over weights that are in place. Raises MemoryPlanError for settings that do not fit."""
    device = weights.device
    held = msgspec.structs.replace(
        settings, device=str(device), dtype=str(weights.dtype).split(".")[-1], weights=weights.format
    )
    placed = _resolved(held, device, shape_of(config))
    ledger = Ledger(config, placed, read=partial(read_device, device), held_bytes=weights.nbytes)
    cap_allocator(device, ledger)
    how = _How(progress, overlap, recorder, grammars or _grammars(config))
    return _assemble(config, weights, placed, ledger, how=how)


@dataclass(frozen=True)
class _How:
    progress: Progress
    overlap: bool | None
    recorder: Recorder | None
    grammars: Grammars


def _assemble(config: ModelConfig, weights: Weights, settings: EngineSettings, ledger: Ledger, *, how: _How) -> Engine:
    how.progress("memory", 0.0)
    device, plan, recorder = weights.device, ledger.plan, how.recorder
    limits = Limits(
        max_sequences=settings.max_sequences,
        step_tokens=settings.max_step_tokens,
        page_tokens=settings.page_tokens,
        window=config.text.window,
        full_layers=any(config.text.full_layers),
        sliding_layers=not all(config.text.full_layers),
    )
    ledger.note(budget.WEIGHTS, weights.nbytes)
    encoder = _encoder(config, weights, settings, ledger)
    ops, gather_tokens = _ops(config, weights, settings, ledger)
    model = Gemma3(config.text, weights, _pools(config, weights, settings, ledger), ops)
    if recorder is None and device.type == "cuda":
        recorder = GraphRecorder(device)
    runner: EagerRunner | GraphRunner
    if recorder is None:
        runner = EagerRunner(model, ops, limits, encoder)
    else:
        runner = _graph_runner(
            model,
            ops,
            limits,
            encoder,
            image_tokens=config.image_tokens,
            max_context=plan.max_context,
            gather_tokens=gather_tokens,
            recorder=recorder,
        )
        runner.capture(lambda share: how.progress("graphs", share))
    ledger.note(budget.STEERING, runner.steering.nbytes)
    ledger.note_recorded()
    return Engine(
        config,
        Capacity(
            max_context=plan.max_context,
            max_sequences=settings.max_sequences,
            max_step_tokens=settings.max_step_tokens,
            page_tokens=settings.page_tokens,
            full_pages=plan.pages.full_pages,
            sliding_pages=plan.pages.sliding_pages,
            weights=weights.format,
            kv=settings.kv,
        ),
        runner=runner,
        scheduler=Scheduler(
            limits,
            PagePool(plan.pages.full_pages),
            PagePool(plan.pages.sliding_pages),
            prefix_cache=settings.prefix_cache,
        ),
        encoder=encoder,
        overlap=device.type == "cuda" if how.overlap is None else how.overlap,
        memory=ledger,
        grammars=how.grammars,
    )


def _graph_runner(
    model: Gemma3,
    ops: Ops,
    limits: Limits,
    encoder: PictureEncoder | None,
    *,
    image_tokens: int,
    max_context: int,
    gather_tokens: int,
    recorder: Recorder,
) -> GraphRunner:
    longest = longest_step(
        max_step_tokens=limits.step_tokens, max_sequences=limits.max_sequences, image_tokens=image_tokens
    )
    return GraphRunner(
        model,
        ops,
        limits,
        encoder,
        max_context=max_context,
        longest_step=longest,
        recorder=recorder,
        gather_tokens=gather_tokens,
    )


def _grammars(config: ModelConfig) -> Grammars:
    """For the vocabulary of the checkpoint's own tokenizer, and the ids that its replies end with."""
    generation, whole = read_generation_config(config.folder), read_model_config(config.folder)
    found = (chosen for chosen in (generation.eos_token_id, whole.eos_token_id, whole.text.eos_token_id) if chosen)
    stops = next(found, ())
    ids = (stops,) if isinstance(stops, int) else stops
    return matcher.Grammars(config.folder, vocab_size=config.text.vocab_size, stop_token_ids=ids)


def _threads(told: str) -> int:
    """What the environment says, which a process that was forked late cannot take from it by itself; else all cores."""
    return int(told) if told.isdecimal() and int(told) > 0 else len(os.sched_getaffinity(0))


def _dtype(settings: EngineSettings) -> torch.dtype:
    return {2: torch.bfloat16, 4: torch.float32}[budget.itemsize_of(settings)]


def _resolved(settings: EngineSettings, device: torch.device, shape: ModelShape) -> EngineSettings:
    """The settings, with our own kernels where what they ask for attention comes down to those, and with formats that
    fit then where they leave them open."""
    capability = torch.cuda.get_device_capability(device) if device.type == "cuda" else None
    if find_backend(settings.attention, device) is None:
        settings = msgspec.structs.replace(settings, attention="triton")
    return resolve(settings, shape, read_device(device).total, capability=capability)


def _ops(config: ModelConfig, weights: Weights, settings: EngineSettings, ledger: Ledger) -> tuple[Ops, int]:
    """The kernels, and how many keys their attention backend takes at once, 0 without one."""
    device, text = weights.device, config.text
    backend = find_backend(settings.attention, device)
    if backend is None:
        return ops_for(device), 0
    scratch = allocate_scratch(
        gather_capacity(settings.max_sequences, ledger.plan.max_context),
        kv_heads=text.kv_heads,
        head_dim=text.head_dim,
        dtype=weights.dtype,
        device=device,
    )
    ledger.note(budget.GATHERED, scratch.nbytes)
    return ops_for(device, backend=backend, scratch=scratch), scratch.shape[1]


def _pools(config: ModelConfig, weights: Weights, settings: EngineSettings, ledger: Ledger) -> KVPools:
    pools = allocate_pools(
        config.text,
        ledger.plan.pages,
        page_tokens=settings.page_tokens,
        device=weights.device,
        dtype=page_type(settings.kv, weights.dtype),
    )
    for name, layers in ((budget.KV_FULL, pools.full), (budget.KV_SLIDING, pools.sliding)):
        ledger.note(name, sum(layer.nbytes for layer in layers))
    return pools


def _encoder(config: ModelConfig, weights: Weights, settings: EngineSettings, ledger: Ledger) -> PictureEncoder | None:
    if weights.tower is None:
        return None
    spec = ImageSpec.load(config.folder)
    if spec is None:
        raise CheckpointError(f"{config.folder}: a checkpoint with vision needs preprocessor_config.json")
    encoder = PictureEncoder(
        weights.tower,
        spec,
        tokens=config.image_tokens,
        hidden_size=config.text.hidden_size,
        slots=picture_slots(settings.max_step_tokens, config.image_tokens),
        device=weights.device,
        dtype=weights.dtype,
    )
    ledger.note(budget.VISION, encoder.images.nbytes)
    return encoder
