"""Findings for people: groups of lines that fit 80 columns, and what to do below each."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from rich.text import Text

from gemmad.doctor.finding import Finding, Level

WIDTH = 80
_STYLES = {Level.OK: "green", Level.WARN: "yellow", Level.FAIL: "red", Level.SKIP: "dim"}
_MOST_DETAILS = 20


def rendered(findings: Sequence[Finding], *, width: int = WIDTH) -> list[Text]:
    """Lines of at most `width` cells; a word that is longer by itself, such as a path, stays whole."""
    lines: list[Text] = []
    name_width = max((len(finding.name) for finding in findings), default=0)
    for group in dict.fromkeys(finding.group for finding in findings):
        lines += [Text()] * bool(lines) + [Text(group, style="bold")]
        for finding in findings:
            if finding.group == group:
                lines += _finding(finding, name_width, width)
    return [*lines, Text(), Text(summary(findings), style="bold")]


def summary(findings: Sequence[Finding]) -> str:
    """How many of what matters."""
    failures, warnings = (sum(each.level is level for each in findings) for level in (Level.FAIL, Level.WARN))
    if not failures and not warnings:
        return "all is well"
    return f"{_counted(failures, 'failure')}, {_counted(warnings, 'warning')}"


def has_failed(findings: Sequence[Finding]) -> bool:
    """Whether anything does not work."""
    return any(finding.level is Level.FAIL for finding in findings)


def _finding(finding: Finding, name_width: int, width: int) -> list[Text]:
    head = f"  {finding.level.value:<4}  {finding.name:<{name_width}}  "
    first, *more = _wrapped(finding.words, width, len(head))
    lines = [Text.assemble("  ", (f"{finding.level.value:<4}", _STYLES[finding.level]), f"{head[6:]}{first}")]
    lines += [Text(" " * len(head) + words) for words in more]
    for detail in finding.details[:_MOST_DETAILS]:
        lines += [Text("      - " + _indented(detail, width, 8))]
    if len(finding.details) > _MOST_DETAILS:
        lines += [Text(f"      - and {len(finding.details) - _MOST_DETAILS} more")]
    if finding.remedy:
        lines += [Text("      > " + _indented(finding.remedy, width, 8))]
    return [line for whole in lines for line in whole.split("\n")]


def _wrapped(words: str, width: int, indent: int) -> list[str]:
    room = max(20, width - indent)
    return textwrap.wrap(words, room, break_long_words=False, break_on_hyphens=False) or [""]


def _indented(words: str, width: int, indent: int) -> str:
    return ("\n" + " " * indent).join(_wrapped(words, width, indent))


def _counted(count: int, what: str) -> str:
    return f"{count} {what}" + ("" if count == 1 else "s")
