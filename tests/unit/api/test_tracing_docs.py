"""docs/tracing.md against the code."""

from __future__ import annotations

import re
from pathlib import Path

from gemmad.api.operations import OPERATIONS
from gemmad.api.record import LINE, MOST_KEPT
from gemmad.api.spans import spans_of
from gemmad.tracing.tracer import FLUSH_SECONDS
from tests.unit.api.test_spans import make_record, moved_on, walk

TEXT = (Path(__file__).parents[3] / "docs" / "tracing.md").read_text()


def first_column(heading: str) -> list[str]:
    """Of the first table under a heading."""
    part = TEXT[TEXT.index(f"\n## {heading}\n") + 1 :].split("\n## ")[0]
    return re.findall(r"^\| `([^`]+)` \|", part, re.MULTILINE)


def test_every_field_of_the_line_is_documented() -> None:
    """The table has the line's fields, in their order."""
    assert first_column("One line for each request") == list(LINE)


def test_every_span_is_documented() -> None:
    """The table has the spans that there are."""
    record = make_record(moved_on())
    record.model = "MODEL"
    for name in ("media", "image", "tokenise", "grammar"):
        with record.phase(name):
            pass
    made = {span.name for span in walk(spans_of(record, 20.0, offset=0.0, devices={}))}
    assert set(first_column("Spans")) == made


def test_names_and_numbers() -> None:
    """Attributes of ours that the page names are made, its operations are all, and its limits are the code's."""
    record = make_record(moved_on(), moved_on())
    spans = list(walk(spans_of(record, 20.0, offset=0.0, devices={"gpu0": "GPU-a"})))
    made = {name for span in spans for name in span.attributes}
    assert set(re.findall(r"`(gemmad\.[a-z.]+)`", TEXT)) <= made
    assert all(f"`{operation}`" in TEXT for operation in OPERATIONS.values())
    assert f"the first {MOST_KEPT}." in TEXT
    assert FLUSH_SECONDS == 3
    assert "has three seconds" in TEXT
