"""`gemmad models`: what is pulled, and what of it the running daemon serves."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from gemmad.cli.control import ControlError, overview
from gemmad.cli.exits import EXIT_FAILED, EXIT_NO_ACCESS, EXIT_NOT_RUNNING, EXIT_TRY_AGAIN, EXIT_USAGE, fail

if TYPE_CHECKING:
    from gemmad.config.models import ModelName
    from gemmad.hub.problems import PullError
    from gemmad.hub.store import Model, Store

_SHORT_COMMIT = 12


def models(
    as_json: Annotated[bool, typer.Option("--json", help="Everything, as JSON.")] = False,
) -> None:
    """Show the models that `gemmad pull` fetched, and which of them the running daemon serves. Exit status: 0 shown."""
    store = own_store()
    found, served = store.models(), _served_if_known()
    if as_json:
        typer.echo(json.dumps([_facts(model, served) for model in found], indent=2))
        return
    if not found:
        typer.echo(f"no models in {store.folder}; get one: gemmad pull google/gemma-3-4b-it")
        return
    rows = [("MODEL", "SIZE", "COMMIT", "PULLED", ""), *(_row(model, served) for model in found)]
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    for row in rows:
        typer.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def own_store() -> Store:
    """The folder of models of whoever runs this."""
    from gemmad.config.models import models_dir
    from gemmad.config.paths import find_paths
    from gemmad.hub.store import Store

    return Store(models_dir(find_paths(os.environ)))


def parse_name(text: str) -> ModelName:
    """What was typed; leaves with `EXIT_USAGE` if it is no name."""
    from gemmad.config.models import ModelName

    try:
        return ModelName.parse(text)
    except ValueError as error:
        fail(str(error), EXIT_USAGE)


def served_folder() -> Path | None:
    """The folder that the running daemon serves or waits for; None if none runs. Raises ControlError if it does not
    tell."""
    try:
        checkpoint = overview().checkpoint
    except ControlError as error:
        if error.code == EXIT_NOT_RUNNING:
            return None
        raise
    return None if checkpoint is None else Path(checkpoint)


def refuse_if_served(model: Model, *, doing: str, force: bool = False) -> None:
    """Leave with `EXIT_FAILED` if the running daemon serves it, or cannot be asked and nobody insists."""
    try:
        served = served_folder()
    except ControlError as error:
        if force:
            return
        fail(f"cannot ask the running daemon whether it serves {model.folder.name}: {error}", EXIT_FAILED)
    if _is_served(model, served):
        fail(f"the running daemon serves {model.name or model.folder}: stop it before {doing}", EXIT_FAILED)


def fail_with(error: PullError) -> NoReturn:
    """Say it, and leave with the status that tells a script whether to try again."""
    from gemmad.hub import problems

    codes = {
        problems.UnreachableError: EXIT_TRY_AGAIN,
        problems.NoAccessError: EXIT_NO_ACCESS,
        problems.UnknownModelNameError: EXIT_USAGE,
        problems.UnsuitableError: EXIT_USAGE,
    }
    fail(str(error), codes.get(type(error), EXIT_FAILED))


def _served_if_known() -> Path | None:
    try:
        return served_folder()
    except ControlError:
        return None


def _is_served(model: Model, served: Path | None) -> bool:
    return served is not None and model.complete and os.path.realpath(served) == os.path.realpath(model.folder)


def _row(model: Model, served: Path | None) -> tuple[str, str, str, str, str]:
    from gemmad.planning.sizes import format_bytes

    manifest = model.manifest
    size, commit, pulled, note = format_bytes(model.bytes), "", "", "in use" if _is_served(model, served) else ""
    if manifest is not None:
        commit = manifest.commit[:_SHORT_COMMIT]
        pulled = time.strftime("%Y-%m-%d", time.localtime(manifest.pulled_at))
    if not model.complete:
        whole = "" if manifest is None else f" of {format_bytes(sum(file.size for file in manifest.files))}"
        note, pulled = f"incomplete{whole}; `gemmad pull` goes on", ""
    return str(model.name or model.folder), size, commit, pulled, note


def _facts(model: Model, served: Path | None) -> dict[str, object]:
    manifest = model.manifest
    return {
        "name": None if model.name is None else str(model.name),
        "path": str(model.folder),
        "bytes": model.bytes,
        "complete": model.complete,
        "commit": None if manifest is None else manifest.commit,
        "pulled_at": None if manifest is None else manifest.pulled_at,
        "in_use": _is_served(model, served),
    }
