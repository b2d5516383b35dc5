"""`gemmad plan`: where a worker's memory would go, without a GPU and without loading anything."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gemmad.cli.exits import EXIT_CONFIG, EXIT_USAGE, fail, refuse_config

if TYPE_CHECKING:
    from gemmad.config.schema import Config
    from gemmad.generation import EngineSettings
    from gemmad.planning.shape import ModelShape
    from gemmad.supervisor.gpus import Gpus

_NO_MODEL = "no model is set: give a published size (--model 12b) or the folder of a checkpoint (--model DIR)"


def plan(
    gpu_memory: Annotated[
        str | None, typer.Option("--gpu-memory", help="Memory of the GPU, such as 24GiB.", metavar="SIZE")
    ] = None,
    context: Annotated[int | None, typer.Option(help="Longest prompt and reply together, in tokens.")] = None,
    sequences: Annotated[int | None, typer.Option(help="Requests computed at a time.")] = None,
    model: Annotated[
        str | None, typer.Option(help="270m, 1b, 4b, 12b, 27b, or a checkpoint's folder.", metavar="NAME|DIR")
    ] = None,
    config: Annotated[Path | None, typer.Option(help="Configuration file.", metavar="FILE")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """Print where a worker's memory would go, and how many sequences of which length would fit.

    What is not given comes from the configuration, and the GPU's size from the GPU if there is one. Exit status: 0 it
    fits, 78 it does not (and what would) or a setting is wrong.
    """
    overrides = {"engine.max_context": context, "engine.max_sequences": sequences, "model.path": model}
    loaded = _load(config, {key: value for key, value in overrides.items() if value is not None})
    total_bytes, on_gpu = _device(loaded, gpu_memory)
    _print_plan(loaded, model, total_bytes, on_gpu=on_gpu, as_json=as_json)


def _print_plan(config: Config, model: str | None, total_bytes: int, *, on_gpu: bool, as_json: bool) -> None:
    from gemmad.errors import CheckpointError, MemoryPlanError
    from gemmad.planning.budget import plan_memory
    from gemmad.planning.remedies import advise
    from gemmad.planning.table import plan_facts, plan_text

    name, shape = _shape(config, model)
    settings = _settings(config, on_gpu=on_gpu)
    try:
        made = plan_memory(shape, settings, total_bytes=total_bytes)
    except (CheckpointError, MemoryPlanError) as error:
        fail(str(error), EXIT_CONFIG)
    advice = advise(shape, settings, made) if made.problem else None
    if as_json:
        typer.echo(json.dumps({"model": name} | plan_facts(made, settings, advice), indent=2))
    else:
        typer.echo(plan_text(made, f"{name}, one worker"))
    if made.problem and advice:
        fail(f"{made.problem}\n{advice.words}", EXIT_CONFIG)


def _load(file: Path | None, overrides: dict[str, object]) -> Config:
    from gemmad.config.load import load_config
    from gemmad.errors import ConfigError

    try:
        return load_config(file, env=os.environ, overrides=overrides).config
    except ConfigError as error:
        refuse_config(str(error))


def _shape(config: Config, model: str | None) -> tuple[str, ModelShape]:
    """The network's name and shape: a published size if one is named, else a folder."""
    from gemmad.config.models import model_folder
    from gemmad.config.paths import find_paths
    from gemmad.errors import CheckpointError
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


def _device(config: Config, gpu_memory: str | None) -> tuple[int, bool]:
    """Bytes to plan with, and whether they are a GPU's."""
    from gemmad.config.quantities import parse_bytes

    if gpu_memory is not None:
        try:
            return int(parse_bytes(gpu_memory)), True
        except ValueError as error:
            fail(f"--gpu-memory: {error}", EXIT_USAGE)
    if config.engine.device == "cpu":
        from gemmad.planning.host import host_bytes

        return host_bytes(), False
    from gemmad.errors import ConfigError
    from gemmad.supervisor.gpus import find_gpus

    try:
        return smallest_gpu(config, find_gpus()), True
    except ConfigError as error:
        fail(str(error), EXIT_USAGE)


def smallest_gpu(config: Config, gpus: Gpus, environ: Mapping[str, str] = os.environ) -> int:
    """Bytes of the smallest GPU that the configuration selects. Raises ConfigError when there is none, or one that is
    selected is not there."""
    from gemmad.errors import ConfigError
    from gemmad.supervisor.seating import selected

    sizes = [gpu.total_bytes for gpu in selected(gpus, config.workers, environ=environ) if gpu.total_bytes]
    if not sizes:
        why = gpus.problem or "none is selected"
        raise ConfigError(f"no GPU tells its memory here ({why}); say how much to plan with: --gpu-memory 24GiB")
    return min(sizes)
