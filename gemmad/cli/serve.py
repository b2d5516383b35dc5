"""`gemmad serve`: the daemon, in the foreground."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from gemmad.cli.exits import EXIT_CONFIG, EXIT_USAGE, fail, refuse_config

DEMO_MODEL_NAME = "gemma-3-demo"

_NO_MODEL = """\
no model is set. Either try the bundled one:
    gemmad serve --demo
or fetch one and name it, or the folder of one, by flag or in {file}:
    gemmad pull google/gemma-3-4b-it
    gemmad serve --model google/gemma-3-4b-it
    [model]
    path = "google/gemma-3-4b-it\""""


def serve(
    config: Annotated[Path | None, typer.Option(help="Configuration file.", metavar="FILE")] = None,
    demo: Annotated[bool, typer.Option("--demo", help="Serve the tiny bundled model.")] = False,
    model: Annotated[
        str | None, typer.Option(help="A pulled model, or a checkpoint's folder.", metavar="NAME|DIR")
    ] = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="TCP port to listen on; 0 takes a free one.")] = None,
    uds: Annotated[Path | None, typer.Option(help="Unix socket to listen on instead.", metavar="PATH")] = None,
    device: Annotated[str | None, typer.Option(help="Where to compute: auto, cpu or cuda.")] = None,
    log_level: Annotated[str | None, typer.Option(help="debug, info, warning or error.")] = None,
) -> None:
    """Serve until told to stop. Settings that are not given come from the environment and the configuration file.

    A model that is missing or broken is waited for. Exit status: 0 asked to stop, 75 try again (port in use), 78 a
    setting is wrong, or no model is set.
    """
    if demo and model is not None:
        fail("--demo and --model exclude each other", EXIT_USAGE)
    overrides: dict[str, Any] = {
        "server.host": host,
        "server.port": port,
        "server.uds": uds,
        "model.path": model,
        "engine.device": device,
        "logging.level": log_level,
    }
    if demo:
        overrides |= _demo_model()
    raise typer.Exit(_serve(config, overrides, hints=demo or sys.stderr.isatty()))


def _serve(config: Path | None, overrides: dict[str, Any], *, hints: bool) -> int:
    from gemmad.config.load import config_candidates, load_config
    from gemmad.config.paths import find_paths
    from gemmad.errors import ConfigError

    try:
        loaded = load_config(config, env=os.environ, overrides=overrides)
    except ConfigError as error:
        refuse_config(str(error))
    if loaded.config.model.path is None:
        fail(_NO_MODEL.format(file=loaded.path or config_candidates(os.environ)[0]), EXIT_CONFIG)

    from gemmad.daemon.run import run

    try:
        return run(loaded, paths=find_paths(os.environ), hints=hints)
    except ConfigError as error:
        refuse_config(str(error))


def _demo_model() -> dict[str, Any]:
    from gemmad.demo import CHECKPOINT

    return {"model.path": CHECKPOINT, "model.served_names": [DEMO_MODEL_NAME]}
