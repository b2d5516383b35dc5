"""`gemmad rm`: a pulled model goes."""

from __future__ import annotations

from typing import Annotated

import typer

from gemmad.cli.exits import EXIT_USAGE, fail
from gemmad.cli.models import fail_with, own_store, parse_name, refuse_if_served


def rm(
    name: Annotated[str, typer.Argument(metavar="NAME", help="As `gemmad models` shows it.")],
    force: Annotated[
        bool, typer.Option("--force", help="Even if the running daemon cannot be asked whether it serves it.")
    ] = False,
) -> None:
    """Remove a pulled model, and what a cut pull of it left; never one that the running daemon serves.

    Exit status: 0 it is gone, 1 it is in use, 2 no such model, 4 no access.
    """
    from gemmad.hub.problems import PullError
    from gemmad.planning.sizes import format_bytes

    model, store = parse_name(name), own_store()
    found = [one for one in store.models() if one.name == model]
    if not found:
        here = ", ".join(str(one.name) for one in store.models() if one.name is not None)
        fail(f"{model} is not in {store.folder}" + (f"; there are {here}" if here else ""), EXIT_USAGE)
    try:
        with store.pulling(model):  # nobody pulls it meanwhile
            refuse_if_served(found[0], doing="it is removed", force=force)
            store.remove(found[0])
    except PullError as error:
        fail_with(error)
    typer.echo(f"removed {model}, {format_bytes(sum(one.bytes for one in found))}")
