"""A report as people read it: a table for the terminal, the same as Markdown for the documentation."""

from __future__ import annotations

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from gemmad.bench.table import figure
from gemmad.evaluate.record import Report, Row
from gemmad.planning.sizes import format_bytes

_HEADINGS = (
    "weights",
    "KV",
    "perplexity",
    "over reference",
    "mean KL",
    "99 % KL",
    "same top-1",
    "weights take",
    "KV takes a token",
)


def cells(row: Row) -> tuple[str, ...]:
    """One row's text, a cell for each of the headings."""
    if row.perplexity is None or row.perplexity_error is None:
        return (row.weights_name, row.kv, row.status, "", "", "", "", "", row.reason)
    near = row.likeness
    return (
        row.weights_name,
        row.kv,
        _perplexity(row.perplexity, row.perplexity_error),
        "reference" if near is None else f"{near.perplexity_ratio:.4f} ± {near.ratio_error:.4f}",
        "" if near is None else f"{figure(near.kl_mean)} ± {figure(near.kl_error)}",
        "" if near is None else figure(near.kl_99),
        "" if near is None else f"{near.top1_agreement:.2%}",
        "" if row.weight_bytes is None else format_bytes(row.weight_bytes),
        "" if row.kv_bytes_per_token is None else format_bytes(row.kv_bytes_per_token),
    )


def sentence(row: Row) -> str:
    """One row by itself."""
    if row.status == "failed":
        return f"{row.name}: failed: {row.reason}"
    _, _, perplexity, ratio, kl, most, agreed, *_ = cells(row)
    if row.likeness is None:
        return f"{row.name}: perplexity {perplexity}; the reference"
    return f"{row.name}: perplexity {perplexity}, over reference {ratio}; KL {kl}, 99 % {most}; top-1 {agreed}"


def print_table(report: Report, console: Console) -> None:
    """The whole table, below what it is of."""
    table = Table(title=_title(report), title_justify="left", box=SIMPLE_HEAD, show_edge=False)
    for heading in _HEADINGS:
        table.add_column(heading, overflow="fold")
    for row in report.rows:
        table.add_row(*map(escape, cells(row)), style="red" if row.status == "failed" else None)
    console.print(table)


def markdown(report: Report) -> str:
    """A page's section: what was run, on what, and the table."""
    facts = report.facts
    device = ", ".join(str(value) for value in facts["device"].values())
    libraries = ", ".join(f"{name} {version}" for name, version in facts["libraries"].items() if version)
    story = [f"`{' '.join(facts['command'])}`", "", f"{_title(report)}.", f"{device}. {libraries}.", ""]
    lines = [_line(_HEADINGS), _line(("---",) * len(_HEADINGS)), *(_line(cells(row)) for row in report.rows)]
    return "\n".join(story + lines) + "\n"


def _perplexity(value: float, error: float) -> str:
    """Those of text have a few digits before the point; random tokens may have ten."""
    return f"{value:.4f} ± {error:.4f}" if value < 100_000 else f"{value:.3g} ± {error:.3g}"


def _title(report: Report) -> str:
    facts, ended = report.facts, "" if report.ended == "complete" else f" ({report.ended})"
    kind = "of replies " if facts["replies"] else ""
    return (
        f"{facts['model']['name']}{ended}, {facts['mode']}: {facts['scored_tokens']} tokens {kind}scored in "
        f"{facts['windows']} windows of {facts['context']}, computed in {facts['model']['dtype']}"
    )


def _line(texts: tuple[str, ...]) -> str:
    return "| " + " | ".join(text.replace("|", "\\|") for text in texts) + " |"
