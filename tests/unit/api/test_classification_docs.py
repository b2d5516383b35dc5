"""docs/classification.md against the code."""

from __future__ import annotations

from pathlib import Path

from gemmad.api.openai.decisions.asking import LIKELIEST, MOST_AT_ONCE
from gemmad.api.openai.decisions.evidence import MAX_JSON_BYTES, MAX_JSON_DEPTH
from gemmad.api.openai.decisions.parameters import DECISIONS, QUESTION
from gemmad.api.openai.decisions.schema import MAX_CHOICES, MAX_LEVELS, MAX_QUESTIONS
from gemmad.api.openai.parameters import Parameter

TEXT = (Path(__file__).parents[3] / "docs" / "classification.md").read_text()


def rows(parameters: tuple[Parameter, ...]) -> str:
    return "\n".join(f"| `{parameter.name}` | {parameter.handling} | {parameter.note} |" for parameter in parameters)


def test_every_field_is_documented() -> None:
    """The tables of fields say what the code does, line for line."""
    assert f"|---|---|---|\n{rows(DECISIONS)}\n\n" in TEXT
    assert f"|---|---|---|\n{rows(QUESTION)}\n\n" in TEXT


def test_the_numbers_are_the_codes() -> None:
    """Bounds in tables and text are those that are checked."""
    notes = {parameter.name: parameter.note for parameter in (*DECISIONS, *QUESTION)}
    assert notes["questions"].startswith(f"1 to {MAX_QUESTIONS} ")
    assert f"2 to {MAX_CHOICES}," in notes["choices"]
    assert f"2 to {MAX_LEVELS}," in notes["levels"]
    assert f"{MAX_JSON_BYTES >> 10} KiB" in TEXT
    assert f"{MAX_JSON_DEPTH}\nlevels" in TEXT
    assert f"the {LIKELIEST} likeliest" in TEXT
    assert f"Up to {MOST_AT_ONCE} are under way" in TEXT
