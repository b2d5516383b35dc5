"""`gemmad keys`: API keys."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from gemmad.cli.exits import EXIT_USAGE, fail

app = typer.Typer(help="API keys.", no_args_is_help=True)

_UNSET = "a file that only its owner can read, and name it in auth.api_keys_file"


@app.command()
def new(
    name: Annotated[str, typer.Option(help="Whose key it is; the log and the queue know its holder by it.")] = "",
) -> None:
    """Make an API key: print it, once, and the line for the file of keys, which does not tell the key.

    Exit status: 0 made, 2 the name cannot be one.
    """
    from gemmad.config.keyring import key_line, new_key

    key = new_key()
    try:
        line = key_line(key, name=name)
    except ValueError as error:
        fail(f"--name: {error}", EXIT_USAGE)
    typer.echo("for the client; it is not kept and not shown again:", err=True)
    typer.echo(key)
    typer.echo(f"to be added to {_where()}:", err=True)
    typer.echo(line)


def _where() -> str:
    """The file of keys that the configuration names."""
    from gemmad.config.load import load_config
    from gemmad.errors import ConfigError

    try:
        path = load_config(None, env=os.environ, overrides={}).config.auth.api_keys_file
    except ConfigError:  # what is wrong with it is not the question here
        path = None
    return str(path or _UNSET)
