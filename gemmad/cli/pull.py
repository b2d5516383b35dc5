"""`gemmad pull`: a model from the hub onto this machine."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from gemmad.cli.exits import EXIT_FAILED, fail
from gemmad.cli.models import fail_with, own_store, parse_name, refuse_if_served

if TYPE_CHECKING:
    from gemmad.config.models import ModelName
    from gemmad.hub.pull import Outcome, Watcher
    from gemmad.hub.store import Model, Store

EXIT_INTERRUPTED = 130


def pull(
    name: Annotated[str, typer.Argument(metavar="REPO[@REVISION]", help="Such as google/gemma-3-4b-it.")],
    offline: Annotated[bool, typer.Option("--offline", help="Ask nobody; only tell whether it is here.")] = False,
    verify: Annotated[
        bool, typer.Option("--verify", help="Read what is here, and fetch again what is damaged.")
    ] = False,
) -> None:
    """Fetch a model from the Hugging Face hub, or go on with a pull that was cut; checksums are compared.

    Exit status: 0 it is here, 1 damaged or no room, 2 no such model or none that gemmad serves, 4 the hub or the disk
    does not let us, 75 try again (no network), 130 interrupted.
    """
    from gemmad.hub.token import is_offline

    model, store = parse_name(name), own_store()
    if offline or is_offline(os.environ):
        _tell_what_is_here(model, store)
        return
    outcome = _pull(model, store, verify=verify)
    _tell(model, outcome)


def _pull(model: ModelName, store: Store, *, verify: bool) -> Outcome:
    from gemmad.hub.problems import PullError
    from gemmad.hub.pull import Pull
    from gemmad.hub.remote import Hub
    from gemmad.hub.token import find_token

    def ask_first(found: Model) -> None:
        refuse_if_served(found, doing="its files change, or pull the other state beside it, as REPO@REVISION")

    try:
        with _watcher() as watcher, Hub(token=find_token(os.environ)) as hub:
            return Pull(model, store=store, hub=hub, watcher=watcher).run(verify=verify, before_replacing=ask_first)
    except KeyboardInterrupt:
        typer.echo(f"gemmad: stopped; `gemmad pull {model}` goes on from here", err=True)
        os._exit(EXIT_INTERRUPTED)  # threads that still read would be waited for; what they wrote is good as it is
    except PullError as error:
        fail_with(error)


def _tell(model: ModelName, outcome: Outcome) -> None:
    from gemmad.planning.sizes import format_bytes

    what = f"pulled {format_bytes(outcome.fetched_bytes)}" if outcome.fetched_bytes else "was here already"
    typer.echo(f"{model}: {what}; {outcome.folder}")
    if sys.stdout.isatty():
        typer.echo(f'serve it:  gemmad serve --model {model}\nor always: [model] path = "{model}"')


def _tell_what_is_here(model: ModelName, store: Store) -> None:
    """Leaves with `EXIT_FAILED` if the model is not."""
    found = store.find(model)
    if found is None:
        _fail_offline(model, store)
    commit = "" if found.manifest is None else f" at commit {found.manifest.commit}"
    typer.echo(f"{model}: is here{commit}; {found.folder}")


def _fail_offline(model: ModelName, store: Store) -> NoReturn:
    here = [str(found.name or found.folder) for found in store.models() if found.complete]
    others = f"here are {', '.join(here)}" if here else f"there are none in {store.folder}"
    fail(f"{model} is not here, and the hub is not asked (offline); {others}", EXIT_FAILED)


@contextmanager
def _watcher() -> Iterator[Watcher]:
    """A bar on a terminal, silence elsewhere."""
    from gemmad.hub.pull import Watcher

    if not sys.stderr.isatty():
        yield Watcher()
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(binary_units=True),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("asking the hub", total=None)

        def begin(what: str, total: int, done: int) -> None:
            progress.reset(task, description=what, total=total, completed=done)

        yield Watcher(begin, lambda count: progress.advance(task, count))
