"""docs/structured-output.md lists what the code holds."""

from __future__ import annotations

import re
from pathlib import Path

from gemmad.grammar import schema

PAGE = Path(__file__).parents[3] / "docs" / "structured-output.md"


def listed(label: str) -> set[str]:
    row = next(line for line in PAGE.read_text().splitlines() if line.startswith(f"| {label} |"))
    return set(re.findall(r"`([^`]+)`", row))


def test_the_page_lists_the_keywords_that_are_held_and_those_that_are_not() -> None:
    """Each keyword that the code knows is in the row of the table that it belongs to."""
    assert listed("held") == schema.HELD - {"additionalItems"}
    assert listed("cannot be held") == schema.UNHELD
    assert listed("formats held") == schema.FORMATS
