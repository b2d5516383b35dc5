"""`gemmad config`: is the file right, what is in force, where is it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gemmad.cli.exits import EXIT_FAILED, refuse_config

if TYPE_CHECKING:
    from gemmad.config.load import Loaded

app = typer.Typer(help="Look at the configuration.", no_args_is_help=True)

File = Annotated[Path | None, typer.Option("--config", help="Configuration file.", metavar="FILE")]


@app.command()
def check(config: File = None) -> None:
    """Print every error of the configuration. Exit status: 0 none, 78 some."""
    loaded = _load(config)
    typer.echo(f"{loaded.path}: ok" if loaded.path else "no configuration file; the defaults are in force")


@app.command()
def show(
    config: File = None,
    origin: Annotated[bool, typer.Option("--origin", help="Tell who set each value.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """Print all settings as they would be in force, as a configuration file."""
    loaded = _load(config)
    if as_json:
        import json

        values = loaded.config.model_dump(mode="json")
        typer.echo(json.dumps({"values": values, "origins": dict(loaded.origins)} if origin else values, indent=2))
        return
    from gemmad.config.document import config_toml

    typer.echo(config_toml(loaded.config, loaded.origins if origin else None), nl=False)


@app.command()
def path() -> None:
    """Print the file that is read. Exit status: 0 there is one, 1 none, with the places that were looked at."""
    from gemmad.config.load import config_candidates, find_config

    found = find_config(os.environ)
    if found is not None:
        typer.echo(str(found))
        return
    typer.echo("\n".join(["no configuration file; looked for", *map(str, config_candidates(os.environ))]), err=True)
    raise typer.Exit(EXIT_FAILED)


def _load(file: Path | None) -> Loaded:
    from gemmad.config.load import load_config
    from gemmad.errors import ConfigError

    try:
        return load_config(file, env=os.environ, overrides={})
    except ConfigError as error:
        refuse_config(str(error))
