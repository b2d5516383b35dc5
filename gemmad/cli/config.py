"""`gemmad config`: is the file right, what is in force, where is it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gemmad.cli.exits import EXIT_CONFIG, EXIT_FAILED, refuse_config

if TYPE_CHECKING:
    from gemmad.config.load import Loaded

app = typer.Typer(help="Look at the configuration.", no_args_is_help=True)

File = Annotated[Path | None, typer.Option("--config", help="Configuration file.", metavar="FILE")]
AsJson = Annotated[bool, typer.Option("--json", help="As JSON.")]


@app.command()
def check(config: File = None, as_json: AsJson = False) -> None:
    """Print every error of the configuration and of its files of API keys. Exit status: 0 none, 78 some."""
    if as_json:
        raise typer.Exit(_check_as_json(config))
    loaded = _load(config)
    _check_keys(loaded)
    typer.echo(f"{loaded.path}: ok" if loaded.path else "no configuration file; the defaults are in force")


@app.command()
def show(
    config: File = None,
    origin: Annotated[bool, typer.Option("--origin", help="Tell who set each value.")] = False,
    as_json: AsJson = False,
) -> None:
    """Print all settings as they would be in force, as a configuration file.

    Exit status: 0 shown, 78 the configuration is wrong.
    """
    loaded = _load(config)
    if as_json:
        values = loaded.config.model_dump(mode="json")
        typer.echo(json.dumps({"values": values, **_told_origins(loaded)} if origin else values, indent=2))
        return
    from gemmad.config.document import config_toml

    origins = {**loaded.origins, **{key: f"file {place}" for key, place in loaded.places.items()}}
    typer.echo(config_toml(loaded.config, origins if origin else None), nl=False)


@app.command()
def path(as_json: AsJson = False) -> None:
    """Print the file that is read. Exit status: 0 there is one, 1 none, with the places that were looked at."""
    from gemmad.config.load import config_candidates, find_config

    found = find_config(os.environ)
    if as_json:
        looked_for = [str(each) for each in config_candidates(os.environ)]
        typer.echo(json.dumps({"path": None if found is None else str(found), "looked_for": looked_for}, indent=2))
        raise typer.Exit(EXIT_FAILED if found is None else 0)
    if found is not None:
        typer.echo(str(found))
        return
    typer.echo("\n".join(["no configuration file; looked for", *map(str, config_candidates(os.environ))]), err=True)
    raise typer.Exit(EXIT_FAILED)


@app.command()
def diff(as_json: AsJson = False) -> None:
    """Print what the files say and the running daemon does not have: `key: running -> wanted`, and when it would be.

    Exit status: 0 printed, 3 not running, 4 no access, 78 the files are wrong.
    """
    from gemmad.cli.control import ControlError, config_diff
    from gemmad.cli.exits import fail

    try:
        found, body = config_diff()
    except ControlError as error:
        fail(str(error), error.code)
    if as_json:
        typer.echo(body)
        raise typer.Exit(EXIT_CONFIG if found.errors else 0)
    if found.errors:
        refuse_config("\n".join(found.errors))
    for setting in found.settings:
        running, wanted = setting.running or "not set", setting.wanted or "not set"
        typer.echo(f"{setting.key}: {running} -> {wanted}  # {_WHEN.get(setting.when, setting.when)}")
    if not found.settings:
        typer.echo("the daemon has what the files say")


@app.command()
def schema() -> None:
    """Print a JSON Schema of the file, for editors. Exit status: 0 printed."""
    from gemmad.config.jsonschema import json_schema

    typer.echo(json.dumps(json_schema(), indent=2))


@app.command()
def example() -> None:
    """Print a file with every setting in a comment, to begin with. Exit status: 0 printed."""
    from gemmad.config.document import example_file

    typer.echo(example_file(), nl=False)


_WHEN = {
    "live": "with the next reload, at once",
    "recycle": "with the next reload, once a worker has got ready with it",
    "trying": "a worker tries it now",
    "restart": "once the daemon is started anew",
}


def _told_origins(loaded: Loaded) -> dict[str, object]:
    return {"origins": dict(loaded.origins), "places": dict(loaded.places)}


def _check_as_json(config: Path | None) -> int:
    """The exit status."""
    from gemmad.config.load import load_config
    from gemmad.daemon.doorkeeper import check_keys
    from gemmad.errors import ConfigError
    from gemmad.tracing.tracer import require_extra

    path, errors = config, list[str]()
    try:
        loaded = load_config(config, env=os.environ, overrides={})
        path = loaded.path
        check_keys(loaded.config, env=os.environ)
        require_extra(loaded.config.tracing.endpoint)
    except ConfigError as error:
        errors = str(error).splitlines()
    typer.echo(json.dumps({"path": None if path is None else str(path), "errors": errors}, indent=2))
    return EXIT_CONFIG if errors else 0


def _check_keys(loaded: Loaded) -> None:
    from gemmad.daemon.doorkeeper import check_keys
    from gemmad.errors import ConfigError
    from gemmad.tracing.tracer import require_extra

    try:
        check_keys(loaded.config, env=os.environ)
        require_extra(loaded.config.tracing.endpoint)
    except ConfigError as error:
        refuse_config(str(error))


def _load(file: Path | None) -> Loaded:
    from gemmad.config.load import load_config
    from gemmad.errors import ConfigError

    try:
        return load_config(file, env=os.environ, overrides={})
    except ConfigError as error:
        refuse_config(str(error))
