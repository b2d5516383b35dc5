"""`gemmad top`, drawn: a picture, a width and a height become lines. Nothing here asks, waits or prints.

Parts claim lines in the order of their importance; those that stand below others on the screen may matter more. What a
small terminal has no room for is left out, the log first and the daemon's state last.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from rich.text import Text

from gemmad.api.dashboard.snapshot import Snapshot
from gemmad.api.overview import Overview
from gemmad.cli.status_text import duration, one_line
from gemmad.cli.top_glyphs import BAD, DIM, GOOD, MIDDLING, Glyphs, spark
from gemmad.cli.top_picture import Picture
from gemmad.cli.top_workers import GAP, flow, worker_lines
from gemmad.monitor.live import LivePoint

KEYS = "q quit  p pause  s sort: "
LEAST_REQUESTS = 3
LEAST_LOG = 3
MOST_ALERTS = 4
SPARK_SECONDS = 300
_STATES = {"ready": GOOD, "failed": BAD, "no_model": BAD}


def view(picture: Picture, *, width: int, height: int, now: float, glyphs: Glyphs) -> list[Text]:
    """At most `height` lines of at most `width` cells. `now` is on the clock of `picture.since`."""
    header = _header(picture, width, now)
    if picture.snapshot is None:
        lines = [*header, Text(), _keys(picture)]
    else:
        lines = _body(picture, picture.snapshot, header, width=width, height=height, glyphs=glyphs)
    for line in lines[:height]:
        line.truncate(width, overflow="ellipsis" if width > 1 else "crop")
        line.no_wrap = True
    return lines[:height]


def _body(
    picture: Picture, seen: Snapshot, header: list[Text], *, width: int, height: int, glyphs: Glyphs
) -> list[Text]:
    room = _Room(height)
    header = room.claim(header)
    gauges = {gauge.uuid: gauge for gauge in seen.gpus}
    blocks = [
        worker_lines(worker, gauges.get(worker.gpu or ""), width=width, glyphs=glyphs)
        for worker in seen.overview.workers
    ]
    workers = room.claim(_with_rest([block[0] for block in blocks], room.left, "workers"))
    keys = room.claim([_keys(picture)]) if room.left > 1 else []
    alerts = room.claim(_alerts(seen), least=1)
    sparks = room.claim(_sparks(picture.points, width, glyphs), least=3)
    more = sum(map(len, blocks)) - len(workers)
    if len(workers) == len(blocks) and more <= room.left:
        room.left -= more
        workers = [line for block in blocks for line in block]
    requests, log = _requests(picture, width), _log(picture, width)
    kept_for_log = min(len(log), LEAST_LOG + 1) if room.left > 2 * LEAST_REQUESTS + LEAST_LOG else 0
    shown = room.claim(_with_rest(requests, room.left - kept_for_log - 1, "requests"), least=2, gap=True)
    tail = room.claim_last(log, least=2)
    return [*header, *alerts, *workers, *sparks, *shown, *tail, *keys]


class _Room:
    """Lines that are left."""

    def __init__(self, height: int) -> None:
        self.left = height

    def claim(self, lines: Sequence[Text], *, least: int = 1, gap: bool = False) -> list[Text]:
        """As many as there is room for, behind an empty one if wanted; none where fewer than `least` would fit."""
        room = self.left - gap
        if not lines or room < min(least, len(lines)):
            return []
        taken = ([Text()] if gap else []) + list(lines[:room])
        self.left -= len(taken)
        return taken

    def claim_last(self, lines: Sequence[Text], *, least: int) -> list[Text]:
        """A title and the last of the lines below it."""
        if len(lines) < 2 or self.left - 1 < least:
            return []
        title, rest = lines[0], lines[1:]
        return self.claim([title, *rest[-(self.left - 2) :]], gap=True)


def _with_rest(lines: list[Text], room: int, what: str) -> list[Text]:
    """All, or those that fit and how many more there are."""
    if len(lines) <= room or room < 2:
        return lines[: max(room, 0)]
    return [*lines[: room - 1], Text(f"{len(lines) - room + 1} more {what}", style=DIM)]


# --- the daemon -------------------------------------------------------------------------------------------------------


def _header(picture: Picture, width: int, now: float) -> list[Text]:
    trouble = []
    if picture.trouble is not None:
        gone = "" if picture.since is None else f", for {duration(max(0.0, now - picture.since))}"
        trouble = [Text(f"no answer{gone}: {one_line(picture.trouble)}", style=BAD)]
    if picture.snapshot is None:
        return trouble or [Text("asking the daemon")]
    seen = picture.snapshot.overview
    clock = time.strftime("%H:%M:%S", time.localtime(picture.snapshot.at))
    title = [
        Text.assemble(("gemmad ", "bold"), seen.version),
        Text(_state(seen), style=_STATES.get(seen.state, MIDDLING)),
        Text("paused" if picture.paused else "", style="bold"),
        Text(f"up {duration(seen.uptime_seconds)}"),
        Text(f"pid {seen.pid}", style=DIM),
        Text(clock, style=DIM),
    ]
    lines = flow(title, width, indent=0)[:1] + trouble
    if seen.trouble is not None:
        lines.append(Text(one_line(f"{seen.trouble.reason}; to mend it: {seen.trouble.remedy}"), style=BAD))
    return [*lines, *flow(_counts(seen), width, indent=0)[:2], *flow(_served(seen), width, indent=0)[:2]]


def _state(seen: Overview) -> str:
    if seen.workers and seen.state == "failed" and all(worker.drained for worker in seen.workers):
        return "drained"
    return "without a model" if seen.state == "no_model" else seen.state


def _counts(seen: Overview) -> list[Text]:
    requests = seen.requests
    failed = Text(f"{requests.failed} failed", style=MIDDLING) if requests.failed else Text()
    return [
        Text(f"{requests.running} running"),
        Text(f"{requests.waiting} waiting"),
        Text(f"{seen.tokens.per_second:.1f} tokens/s"),
        Text(f"{requests.finished} finished", style=DIM),
        failed,
        Text(f"{requests.refused} refused" if requests.refused else "", style=DIM),
    ]


def _served(seen: Overview) -> list[Text]:
    url = seen.url if seen.url.startswith("unix:") else f"{seen.url}/v1"
    name = seen.models[0] if seen.models else "no model"
    fields = [Text(one_line(name)), Text(one_line(url))]
    if seen.max_context is not None:
        fields.append(Text(f"context {seen.max_context}", style=DIM))
    reload = seen.config.reload
    if reload is not None:
        ago = f"{duration(reload.seconds_ago)} ago"
        fields.append(
            Text(f"config reloaded {ago}", style=DIM) if reload.ok else Text(f"config REFUSED {ago}", style=BAD)
        )
        if reload.rolling:
            fields.append(Text("a worker tries new settings", style=MIDDLING))
        if reload.pending:
            fields.append(Text(f"{len(reload.pending)} settings wait", style=MIDDLING))
    return fields


def _keys(picture: Picture) -> Text:
    return Text(f"{KEYS}{picture.sort.value}", style=DIM)


def _alerts(seen: Snapshot) -> list[Text]:
    alerts = sorted(seen.alerts, key=lambda alert: (alert.level != "critical", alert.worker or ""))
    lines = []
    for alert in alerts:
        who = f"{alert.worker}: " if alert.worker else ""
        words = one_line(f"{alert.level} {who}{alert.words}; {alert.action}")
        lines.append(Text(words, style=BAD if alert.level == "critical" else MIDDLING))
    return _with_rest(lines, MOST_ALERTS, "alerts")


# --- curves -----------------------------------------------------------------------------------------------------------

Curve = tuple[str, Callable[[LivePoint], float | None], Callable[[float], str]]


def _seconds(value: float) -> str:
    return f"{value * 1000:.0f} ms" if value < 1 else f"{value:.1f} s"


_CURVES: tuple[Curve, ...] = (
    ("tokens/s", lambda point: point.tokens_per_second, lambda value: f"{value:.0f}"),
    ("TTFT p95", lambda point: point.ttft_p95, _seconds),
    ("queue", lambda point: float(point.waiting), lambda value: f"{value:.0f}"),
)


def _sparks(points: Sequence[LivePoint], width: int, glyphs: Glyphs) -> list[Text]:
    """The last minutes as curves, each with its latest value; the last line of all is the least."""
    recent = points[-SPARK_SECONDS:]
    if not recent:
        return []
    lines = []
    for name, value_of, words_of in _CURVES:
        values = [value_of(point) for point in recent]
        latest = next((value for value in reversed(values) if value is not None), None)
        words = "-" if latest is None else words_of(latest)
        curve = spark(values, max(0, width - 20), glyphs)
        lines.append(Text.assemble(f"{name:<8} ", (curve, "cyan"), f"{GAP}{words}"))
    return lines


# --- requests and log -------------------------------------------------------------------------------------------------


def _requests(picture: Picture, width: int) -> list[Text]:
    """A title and a line for each. Where it is narrow the id stands last and is cut."""
    requests = picture.requests()
    if not requests:
        return []
    names = [one_line(request.worker or "waits") for request in requests]
    room = max(6, *(len(name) for name in names))
    wide = width >= 72
    title = f"{'WORKER':<{room}} {'AGE':>8} {'SAID':>11}" + f" {'PROMPT':>7} {'IMAGES':>6}" * wide
    lines = [Text(f"{title}  REQUEST", style="bold")]
    for name, request in zip(names, requests, strict=True):
        said = f"{request.said_tokens}/{request.max_tokens}"
        words = f"{name:<{room}} {duration(request.age_seconds):>8} {said:>11}"
        if wide:
            words += f" {request.prompt_tokens:>7} {request.images or '':>6}"
        notes = " suspect" * request.suspect + (f" moved on {request.failovers}x" if request.failovers else "")
        style = MIDDLING if request.suspect else DIM if request.worker is None else ""
        lines.append(Text(f"{words}  {one_line(request.request_id)}{notes}", style=style))
    return lines


def _log(picture: Picture, width: int) -> list[Text]:
    del width  # long lines are cut as all others are
    if not picture.log:
        return []
    lines = [Text("LOG", style="bold")]
    for line in picture.log:
        style = {"error": BAD, "critical": BAD, "warning": MIDDLING}.get(line.level, "")
        fields = " ".join(f"{name}={value}" for name, value in line.fields.items())
        lines.append(
            Text.assemble((_time_of(line.at), DIM), " ", (one_line(line.event), style), (f" {one_line(fields)}", DIM))
        )
    return lines


def _time_of(at: str) -> str:
    """The time of day of an ISO date."""
    return one_line(at.partition("T")[2][:8] or at[:8])
