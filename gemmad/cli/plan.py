"""`gemmad plan`: where a worker's memory would go, without a GPU and without loading anything."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from gemmad.cli.exits import EXIT_CONFIG, EXIT_USAGE, fail, refuse_config
from gemmad.errors import CheckpointError, ConfigError, MemoryPlanError

if TYPE_CHECKING:
    from gemmad.config.schema import Config
    from gemmad.generation import EngineSettings
    from gemmad.planning.shape import ModelShape
    from gemmad.supervisor.gpus import Gpus

_NO_MODEL = "no model is set: give a published size (--model 12b) or the folder of a checkpoint (--model DIR)"


class _Device(NamedTuple):
    """What to plan for."""

    total_bytes: int
    on_gpu: bool
    capability: tuple[int, int] | None = None
    """None on a CPU, and where nobody knows."""


def plan(  # noqa: PLR0913, PLR0917 - an option each
    gpu_memory: Annotated[
        str | None, typer.Option("--gpu-memory", help="Memory of the GPU, such as 24GiB.", metavar="SIZE")
    ] = None,
    context: Annotated[int | None, typer.Option(help="Longest prompt and reply together, in tokens.")] = None,
    sequences: Annotated[int | None, typer.Option(help="Requests computed at a time.")] = None,
    weights: Annotated[
        str | None, typer.Option(help="What weights are kept in: bf16, fp8, int8, int4 or auto.", metavar="FORMAT")
    ] = None,
    kv: Annotated[
        str | None, typer.Option(help="What the KV cache is kept in: bf16, fp8, int8 or auto.", metavar="FORMAT")
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="270m, 1b, 4b, 12b, 27b, or a checkpoint's folder.", metavar="NAME|DIR")
    ] = None,
    alternatives: Annotated[
        bool, typer.Option("--propose", help="Also print what else fits, with the settings for it.")
    ] = False,
    config: Annotated[Path | None, typer.Option(help="Configuration file.", metavar="FILE")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """Print where a worker's memory would go, and how many sequences of which length would fit.

    What is not given comes from the configuration, and the GPU's size from the GPU if there is one. Where it does not
    fit, what does is printed: formats of weights and KV cache with the context that each leaves room for.

    Exit status: 0 it fits, 78 it does not (and what would) or a setting is wrong.
    """
    overrides = {
        "engine.max_context": context,
        "engine.max_sequences": sequences,
        "engine.weights": weights,
        "engine.kv": kv,
        "model.path": model,
    }
    loaded = _load(config, {key: value for key, value in overrides.items() if value is not None})
    device = _device(loaded, gpu_memory)
    name, shape = _shape(loaded, model)
    asked = _settings(loaded, on_gpu=device.on_gpu)
    free = {key: "auto" for key, value in (("weights", weights), ("kv", kv)) if value is None}
    try:
        _print_plan(name, shape, asked, device=device, free=free, always=alternatives, as_json=as_json)
    except (CheckpointError, MemoryPlanError) as error:
        fail(str(error), EXIT_CONFIG)


def _print_plan(
    name: str,
    shape: ModelShape,
    asked: EngineSettings,
    *,
    device: _Device,
    free: Mapping[str, str],
    always: bool,
    as_json: bool,
) -> None:
    """`free`: formats that proposals may choose; what a flag names stays. `always`: proposals also where it fits."""
    import msgspec

    from gemmad.planning.budget import plan_memory
    from gemmad.planning.formats import resolve
    from gemmad.planning.proposal_text import proposals_facts, proposals_text
    from gemmad.planning.proposals import propose
    from gemmad.planning.remedies import advise
    from gemmad.planning.table import plan_facts, plan_text

    total, capability = device.total_bytes, device.capability
    settings = resolve(asked, shape, total, capability=capability)
    made = plan_memory(shape, settings, total_bytes=total)
    advice = advise(shape, settings, made, capability=capability) if made.problem else None
    proposals = None
    if made.problem or always:
        proposals = propose(shape, msgspec.structs.replace(asked, **free), total, capability=capability)
    if as_json:
        facts = {"model": name} | plan_facts(made, settings, advice)
        told = [] if proposals is None else proposals_facts(proposals, asked)
        typer.echo(json.dumps(facts | {"proposals": told}, indent=2))
    else:
        typer.echo(plan_text(made, f"{name}, one worker"))
        if proposals is not None:
            typer.echo(f"\n{proposals_text(proposals, asked)}")
    if made.problem and advice:
        fail(f"{made.problem}\n{advice.words}", EXIT_CONFIG)


def _load(file: Path | None, overrides: dict[str, object]) -> Config:
    from gemmad.config.load import load_config

    try:
        return load_config(file, env=os.environ, overrides=overrides).config
    except ConfigError as error:
        refuse_config(str(error))


def _shape(config: Config, model: str | None) -> tuple[str, ModelShape]:
    """The network's name and shape: a published size if one is named, else a folder."""
    from gemmad.config.models import model_folder
    from gemmad.config.paths import find_paths
    from gemmad.planning.shape import PUBLISHED, published_shape, read_shape

    if model is not None and model.lower() in PUBLISHED:
        return model.lower(), published_shape(model.lower())
    if config.model.path is None:
        fail(_NO_MODEL, EXIT_CONFIG)
    folder = model_folder(config.model.path, find_paths(os.environ))
    if model is not None and not folder.is_dir():
        fail(f"{model} is neither a folder, nor pulled, nor one of {', '.join(PUBLISHED)}", EXIT_CONFIG)
    try:
        return folder.name, read_shape(folder)
    except CheckpointError as error:
        fail(str(error), EXIT_CONFIG)


def _settings(config: Config, *, on_gpu: bool) -> EngineSettings:
    """What the daemon would tell a worker on such a device."""
    from importlib.util import find_spec

    import msgspec

    from gemmad.daemon.settings import engine_settings
    from gemmad.supervisor.seat import Seat

    seat = Seat("plan", "cuda:0", {}, gpu="any") if on_gpu else Seat("plan", "cpu", {})
    settings = engine_settings(config, seat)
    if settings.attention == "auto" and find_spec("flash_attn") is None:  # there will be no backend to gather keys for
        return msgspec.structs.replace(settings, attention="triton")
    return settings


def _device(config: Config, gpu_memory: str | None) -> _Device:
    """What to plan for. Of a GPU that is only talked of nobody knows what it computes."""
    from gemmad.config.quantities import parse_bytes

    if gpu_memory is not None:
        try:
            return _Device(int(parse_bytes(gpu_memory)), on_gpu=True)
        except ValueError as error:
            fail(f"--gpu-memory: {error}", EXIT_USAGE)
    if config.engine.device == "cpu":
        from gemmad.planning.host import host_bytes

        return _Device(host_bytes(), on_gpu=False)
    from gemmad.doctor.read_gpus import read_gpus

    found = read_gpus()
    try:
        return _Device(smallest_gpu(config, found.gpus), on_gpu=True, capability=found.least_capability)
    except ConfigError as error:
        fail(str(error), EXIT_USAGE)


def smallest_gpu(config: Config, gpus: Gpus, environ: Mapping[str, str] = os.environ) -> int:
    """Bytes of the smallest GPU that the configuration selects. Raises ConfigError when there is none, or one that is
    selected is not there."""
    from gemmad.supervisor.seating import selected

    sizes = [gpu.total_bytes for gpu in selected(gpus, config.workers, environ=environ) if gpu.total_bytes]
    if not sizes:
        why = gpus.problem or "none is selected"
        raise ConfigError(f"no GPU tells its memory here ({why}); say how much to plan with: --gpu-memory 24GiB")
    return min(sizes)
