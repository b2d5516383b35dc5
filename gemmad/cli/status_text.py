"""The daemon's overview for people. Nothing here asks or prints."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from gemmad.api.overview import Configuration, Overview, WorkerOverview
from gemmad.planning.sizes import format_bytes

_GOOD, _BAD, _MIDDLING = "green", "red", "yellow"
_STYLES = {"ready": _GOOD, "failed": _BAD, "no_model": _BAD, "backoff": _BAD, "hung": _BAD, "killing": _BAD}

Column = tuple[str, Callable[[WorkerOverview], str]]


def rendered(seen: Overview) -> RenderableType:
    """The daemon in a few lines, a table of its workers, and what there is to say about each."""
    lines = [Text.assemble(f"gemmad {seen.version} is ", (_state(seen), _style(seen.state)), _since(seen))]
    lines += [Text(one_line(words)) for words in (_served(seen), _requests(seen))]
    if seen.trouble is not None:
        lines += [
            Text(one_line(f"model    {seen.trouble.reason}"), style=_BAD),
            Text(one_line(f"         to mend it: {seen.trouble.remedy}")),
        ]
    lines += [Text(one_line(words)) for words in _config(seen.config)]
    parts: list[RenderableType] = [*lines]
    if seen.workers:
        parts += [Text(), _table(seen.workers)]
    notes = [Text(one_line(words)) for worker in seen.workers for words in _notes(worker)]
    return Group(*parts, *([Text(), *notes] if notes else []))


def duration(seconds: float) -> str:
    """For people, in two units at most: `0.4s`, `42s`, `3m 20s`, `5d 3h`."""
    if seconds < 10:
        return f"{seconds:.1f}s"
    whole = int(seconds)
    for unit, size, part, part_size in (("d", 86400, "h", 3600), ("h", 3600, "m", 60), ("m", 60, "s", 1)):
        if whole >= size:
            return f"{whole // size}{unit} {whole % size // part_size}{part}"
    return f"{whole}s"


def one_line(text: str) -> str:
    """Without what could move a terminal's cursor: what a worker wrote is not ours."""
    return "".join(character if character.isprintable() else " " for character in text)


def state_words(worker: WorkerOverview) -> str:
    """What it does, and how far it is."""
    words = "drained" if worker.drained and worker.state == "stopped" else worker.state
    if worker.stage is not None:
        words += f": {worker.stage}"
    if worker.progress:
        words += f" {worker.progress:.0%}"
    if worker.retry_in_seconds is not None:
        words += f", again in {duration(worker.retry_in_seconds)}"
    if worker.recycling and not worker.drained:
        words += ", recycling"
    return words


# --- the daemon -------------------------------------------------------------------------------------------------------


def _state(seen: Overview) -> str:
    drained = seen.workers and all(worker.drained for worker in seen.workers)
    if drained and seen.state == "failed":
        return "drained"
    return "without a model" if seen.state == "no_model" else seen.state


def _since(seen: Overview) -> str:
    return f", pid {seen.pid}, up {duration(seen.uptime_seconds)}"


def _served(seen: Overview) -> str:
    url = seen.url if seen.url.startswith("unix:") else f"{seen.url}/v1"
    context = "" if seen.max_context is None else f", context {seen.max_context}"
    return f"serves   {' and '.join(seen.models)} at {url}{context}"


def _requests(seen: Overview) -> str:
    requests, tokens = seen.requests, seen.tokens
    words = f"requests {requests.running} running, {requests.waiting} waiting, {requests.finished} finished"
    for count, name in (
        (requests.failed, "failed"),
        (requests.refused, "refused"),
        (requests.abandoned, "abandoned"),
        (requests.failovers, "moved on"),
    ):
        if count:
            words += f", {count} {name}"
    return f"{words}; {tokens.per_second:.1f} tokens/s"


def _config(config: Configuration) -> list[str]:
    words, reload = f"config   {config.path or 'no file, the defaults are in force'}", config.reload
    if reload is None:
        return [words]
    what = "reloaded" if reload.ok else "REFUSED, the one before stays in force,"
    lines = [f"{words}, {what} {duration(reload.seconds_ago)} ago"]
    lines += [f"         {error}" for error in reload.errors]
    lines += [f"         {key} is tried by a worker" for key in reload.rolling]
    return lines + [f"         {setting.key} waits for a {setting.until}" for setting in reload.pending]


# --- workers ----------------------------------------------------------------------------------------------------------


def _table(workers: Sequence[WorkerOverview]) -> Table:
    """A row for each, one more for a next life that gets ready beside it; columns that would be empty are left out."""
    rows = [(worker.name, worker) for worker in workers]
    for index, worker in reversed(list(enumerate(workers))):
        if worker.successor is not None:
            rows.insert(index + 1, ("  next", worker.successor))
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("WORKER", no_wrap=True)
    table.add_column("STATE")
    columns = [column for column in _COLUMNS if any(column[1](worker) for _, worker in rows)]
    for title, _ in columns:
        table.add_column(title, justify="right", no_wrap=True)
    for name, worker in rows:
        state = Text(one_line(state_words(worker)), style=_style(worker.state))
        table.add_row(Text(one_line(name)), state, *(Text(cell(worker)) for _, cell in columns))
    return table


def _notes(worker: WorkerOverview) -> list[str]:
    said = (
        ("waits for", worker.waits_for),
        ("last error", worker.last_error),
        ("last recycle", worker.last_recycle),
        ("last error of its next life", None if worker.successor is None else worker.successor.last_error),
    )
    return [f"{worker.name}: {title}: {words}" for title, words in said if words]


def _style(state: str) -> str:
    return _STYLES.get(state, _MIDDLING)


def _busy(worker: WorkerOverview) -> str:
    if worker.load is None or worker.capacity is None:
        return ""
    waiting = f"+{worker.load.waiting}" if worker.load.waiting else ""
    return f"{worker.load.running}{waiting}/{worker.capacity.max_sequences}"


def _cached(worker: WorkerOverview) -> str:
    load = worker.load
    return f"{load.cached_tokens / load.prompt_tokens:.0%}" if load is not None and load.prompt_tokens else ""


def _count(count: int) -> str:
    return str(count) if count else ""


def _bytes(count: int) -> str:
    return format_bytes(count) if count else ""


_COLUMNS: tuple[Column, ...] = (
    ("FOR", lambda worker: duration(worker.state_seconds)),
    ("LIFE", lambda worker: _count(worker.life)),
    ("PID", lambda worker: _count(worker.pid or 0)),
    ("BUSY", _busy),
    ("KV", lambda worker: "" if worker.kv_usage is None else f"{worker.kv_usage:.0%}"),
    ("CACHED", _cached),
    ("PREEMPTED", lambda worker: _count(worker.load.preemptions if worker.load else 0)),
    ("DEVICE", lambda worker: _bytes(worker.load.device_bytes if worker.load else 0)),
    ("HOST", lambda worker: _bytes(worker.load.host_rss_bytes if worker.load else 0)),
    ("RECYCLE", lambda worker: _ahead(worker.next_recycle_in_seconds)),
)


def _ahead(seconds: float | None) -> str:
    return "" if seconds is None else f"in {duration(seconds)}"
