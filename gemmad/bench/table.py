"""A report as people read it: a table for the terminal, the same as Markdown for the documentation."""

from __future__ import annotations

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from gemmad.bench.record import Report, Row
from gemmad.bench.wanted import SCENARIOS

_HEADINGS = ("", "median", "lowest – highest", "floor", "of floor", "achieved", "more")
_ALL_COLUMNS_WIDTH = 140
_LABEL_WIDTH = 24


def figure(value: float) -> str:
    """Three digits that count, or all of a whole number; thousands apart."""
    if value == 0:
        return "0"
    if abs(value) >= 100:
        return f"{value:,.0f}".replace(",", " ")
    if abs(value) >= 0.01:
        return f"{value:.3g}"
    return f"{value:.2e}"


def cells(row: Row) -> tuple[str, ...]:
    """One row's text, a cell for each of the headings."""
    if row.spread is None:
        return (row.label, row.status, "", "", "", "", row.reason)
    many = row.spread.count > 1
    more = [f"{name.replace('_', ' ')} {figure(value)}" for name, value in row.details.items()]
    return (
        row.label,
        f"{figure(row.spread.median)} {row.unit}".strip(),
        f"{figure(row.spread.low)} – {figure(row.spread.high)}" if many else "",
        figure(row.floor) if row.floor is not None else "",
        f"{row.percent_of_floor:.0f} %" if row.percent_of_floor is not None else "",
        f"{figure(row.achieved)} {row.achieved_unit}" if row.achieved is not None else "",
        ", ".join([row.reason, *more] if row.reason else more),
    )


def sentence(row: Row) -> str:
    """One row by itself."""
    label, median, spread, floor, share, achieved, more = cells(row)
    if row.spread is None:
        return f"{label}: {median}: {more}"
    parts = [f"({spread})" if spread else "", f"{share} of {floor}" if floor else "", achieved, more]
    return "; ".join([f"{label}: {median} {parts[0]}".strip(), *filter(None, parts[1:])])


def print_table(report: Report, console: Console) -> None:
    """The whole table, in sections as it was measured. A narrow terminal has no room for the last column, whose words
    were told as each row came."""
    shown = len(_HEADINGS) if console.width >= _ALL_COLUMNS_WIDTH else len(_HEADINGS) - 1
    table = Table(title=_title(report), title_justify="left", box=SIMPLE_HEAD, show_edge=False)
    for heading in _HEADINGS[:shown]:
        table.add_column(heading, overflow="fold", min_width=None if heading else _LABEL_WIDTH)
    for scenario in SCENARIOS:
        rows = [row for row in report.rows if row.scenario == scenario]
        for row in rows:
            style = {"ok": None, "skipped": "dim", "failed": "red"}[row.status]
            table.add_row(*map(escape, cells(row)[:shown]), style=style, end_section=row is rows[-1])
    console.print(table)


def markdown(report: Report) -> str:
    """A page's section: what was run, on what, and the table."""
    lines = [*_story(report), "", _line(_HEADINGS), _line(("---",) * len(_HEADINGS))]
    for scenario in SCENARIOS:
        lines += [_line(cells(row)) for row in report.rows if row.scenario == scenario]
    return "\n".join(lines) + "\n"


def _story(report: Report) -> list[str]:
    facts = report.facts
    libraries = ", ".join(f"{name} {version}" for name, version in facts.get("libraries", {}).items() if version)
    device = ", ".join(str(value) for value in facts.get("device", {}).values())
    return [
        f"`{' '.join(facts.get('command', ()))}`",
        "",
        f"{_title(report)}; commit {facts.get('commit') or 'unknown'}; {facts.get('started', '')}.",
        f"{device}. {libraries}.",
    ]


def _title(report: Report) -> str:
    facts = report.facts
    ended = "" if report.ended == "complete" else f" ({report.ended})"
    return f"gemmad {facts.get('gemmad', '')}: {facts.get('model', {}).get('name', '')}{ended}"


def _line(texts: tuple[str, ...]) -> str:
    return "| " + " | ".join(text.replace("|", "\\|") for text in texts) + " |"
