"""`gemmad engine`: the environments that have torch, and which of them workers run in."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from gemmad.cli.exits import EXIT_FAILED, fail

if TYPE_CHECKING:
    from gemmad.engines.store import Engine, EngineStore

NONE = "none"
app = typer.Typer(help="The environments that have torch, for workers to run in.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(metavar="NAME", help="As `gemmad engine list` shows it.")]
Keep = Annotated[bool, typer.Option("--no-use", help="Do not make it current.")]


@app.command()
def install(
    kind: Annotated[str, typer.Argument(metavar="KIND", help="`cuda` or `cpu`.")],
    lock: Annotated[
        Path | None, typer.Option("--lock", help="Requirements with exact versions, instead of gemmad's own.")
    ] = None,
    keep: Keep = False,
) -> None:
    """Make an engine with pip, try it, and make it current. If anything fails, nothing changes.

    Exit status: 0 done, 1 it could not be made.
    """
    from gemmad.engines.install import install

    with _changing() as store:
        engine = install(store, kind, say=typer.echo, lock=lock)
        _take(store, engine, use=not keep)


@app.command()
def add(
    python: Annotated[Path, typer.Argument(metavar="PYTHON", help="Its interpreter: .../bin/python.")],
    keep: Keep = False,
) -> None:
    """Take an environment that somebody else made as an engine, try it, and make it current.

    Exit status: 0 done, 1 a worker could not run in it.
    """
    from gemmad.engines.install import add

    with _changing() as store:
        _take(store, add(store, python), use=not keep)


@app.command("list")
def list_engines(as_json: Annotated[bool, typer.Option("--json", help="Everything, as JSON.")] = False) -> None:
    """Show the engines; `*` marks the current one. Exit status: 0 shown."""
    from gemmad.engines.store import CURRENT
    from gemmad.planning.sizes import format_bytes

    store = _store()
    engines, current = store.engines(), _link(store.folder / CURRENT)
    if as_json:
        told = [msgspec.to_builtins(engine) for engine in engines]
        typer.echo(json.dumps({"current": current, "previous": store.previous(), "engines": told}, indent=2))
        return
    if not engines:
        typer.echo(f"no engines in {store.folder}; workers run in the daemon's own Python")
    for engine in engines:
        size = format_bytes(engine.bytes) if engine.bytes else engine.python
        versions = f"torch {engine.versions['torch']}, Python {engine.versions['python']}"
        mark, broken = "*" if engine.name == current else " ", "  broken" if engine.is_broken else ""
        typer.echo(f"{mark} {engine.name:<10} {versions}  {engine.made[:10]}  {size}{broken}")
    if current is not None and current not in {engine.name for engine in engines}:
        typer.echo(f"* {current:<10} gone; `gemmad engine rollback` or `gemmad engine use NAME`")


@app.command()
def use(name: Annotated[str, typer.Argument(metavar="NAME", help="`none`: the daemon's own Python.")]) -> None:
    """Make an engine current. Exit status: 0 done, 1 there is no such engine, or it is broken."""
    with _changing() as store:
        store.use(None if name == NONE else name)
    _say_current(name)


@app.command()
def rollback() -> None:
    """Make the engine current that was it before. Exit status: 0 done, 1 there was none, or it is broken."""
    with _changing() as store:
        name = store.roll_back()
    _say_current(name)


@app.command()
def remove(name: Name) -> None:
    """Delete an engine that is not current; of one that was added only the entry.

    Exit status: 0 it is gone, 1 it is in use, or there is none.
    """
    from gemmad.planning.sizes import format_bytes

    with _changing() as store:
        engine = store.remove(name)
    typer.echo(f"removed {name}, {format_bytes(engine.bytes)}")


def _take(store: EngineStore, engine: Engine, *, use: bool) -> None:
    typer.echo(f"{engine.name}: torch {engine.versions['torch']}, Python {engine.versions['python']}")
    if use:
        store.use(engine.name)
        _say_current(engine.name)


def _say_current(name: str) -> None:
    said = "the daemon's own Python is" if name == NONE else f"engine {name} is"
    typer.echo(f"{said} used from every worker's next life on; `gemmad recycle --all` renews them now")


@contextlib.contextmanager
def _changing() -> Iterator[EngineStore]:
    """Leaves with `EXIT_FAILED` and the reason, if something does not work."""
    from gemmad.engines.store import EngineError

    os.umask(0o022)  # root installs, and the user gemmad runs it
    store = _store()
    try:
        with store.changing():
            yield store
    except EngineError as error:
        fail(str(error), EXIT_FAILED)
    except OSError as error:
        fail(f"{error.filename or store.folder}: {error.strerror}", EXIT_FAILED)


def _store() -> EngineStore:
    from gemmad.config.paths import find_paths
    from gemmad.engines.store import EngineStore, engines_dir

    return EngineStore(engines_dir(find_paths(os.environ)))


def _link(path: Path) -> str | None:
    try:
        return os.readlink(path)
    except OSError:
        return None
