"""`gemmad version`."""

from __future__ import annotations

import json
import platform
from importlib import metadata
from typing import Annotated

import typer

from gemmad import __version__

_COMPANIONS = ("torch", "transformers", "tokenizers", "safetensors")


def version(
    as_json: Annotated[bool, typer.Option("--json", help="With the versions of what it runs on.")] = False,
) -> None:
    """Print the version. Exit status: 0 printed."""
    if not as_json:
        typer.echo(f"gemmad {__version__}")
        return
    facts = {"gemmad": __version__, "python": platform.python_version(), "platform": platform.platform()}
    typer.echo(json.dumps(facts | {name: _installed(name) for name in _COMPANIONS}, indent=2))


def _installed(name: str) -> str | None:
    try:
        return metadata.version(name)  # read from its metadata: importing torch takes seconds
    except metadata.PackageNotFoundError:
        return None
