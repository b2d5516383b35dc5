from __future__ import annotations

import io

import msgspec
import pytest
from rich.console import Console

from gemmad.bench.floor import Roof, Work
from gemmad.bench.record import Report, Row, rate_row, value_row
from gemmad.bench.table import cells, figure, markdown, print_table, sentence

ROOF = Roof(bytes_per_second=1e12, flop_per_second=1e14)
DECODE = msgspec.structs.replace(
    rate_row("decode", [0.016, 0.02], tokens=8, roof=ROOF, work=Work(8e9, 1.0), details={"step_ms": 18.0}),
    scenario="decode",
)
SKIPPED = Row(label="prefill [32k]", scenario="prefill", status="skipped", reason="does not fit | at all")
REPORT = Report(
    ended="out of time",
    facts={
        "command": ["gemmad", "bench", "--demo"],
        "gemmad": "1.2",
        "commit": "abc",
        "model": {"name": "demo"},
        "device": {"name": "H200"},
        "libraries": {"torch": "2.11", "flash-attn": None},
    },
    rows=(SKIPPED, DECODE),
)


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (0.00012, "1.20e-04"), (5.4321, "5.43"), (123.6, "124"), (28012.4, "28 012")],
)
def test_figures_show_what_counts(value: float, text: str) -> None:
    """Three digits, or all of a large number."""
    assert figure(value) == text


def test_a_row_in_cells() -> None:
    """Median with unit, ends, floor, share, what was achieved, and the rest; a skipped row says why."""
    assert cells(DECODE) == (
        "decode",
        "450 tok/s",
        "400 – 500",
        "1 000",
        "44 %",
        "0.444 TB/s",
        "step ms 18",
    )
    assert cells(SKIPPED) == ("prefill [32k]", "skipped", "", "", "", "", "does not fit | at all")
    assert cells(value_row("image", "ms", [3.0]))[:3] == ("image", "3 ms", "")


def test_a_row_as_a_sentence() -> None:
    """The line that is shown as the figure comes."""
    assert sentence(DECODE) == "decode: 450 tok/s (400 – 500); 44 % of 1 000; 0.444 TB/s; step ms 18"
    assert sentence(SKIPPED) == "prefill [32k]: skipped: does not fit | at all"


def test_the_page_tells_how_to_do_it_again() -> None:
    """Command, commit, device and versions stand above the table, which is in the scenarios' order."""
    page = markdown(REPORT)
    for words in ("`gemmad bench --demo`", "commit abc", "gemmad 1.2: demo (out of time)", "H200. torch 2.11."):
        assert words in page
    assert "flash-attn" not in page
    assert page.index("| decode |") < page.index("| prefill [32k] |")
    assert "does not fit \\| at all" in page


def test_the_terminal_shows_every_row() -> None:
    """What looks like markup in a label stays text."""
    out = io.StringIO()
    print_table(REPORT, Console(file=out, width=170))
    for words in ("prefill [32k]", "450 tok/s", "step ms 18"):
        assert words in out.getvalue()


def test_a_narrow_terminal_keeps_the_figures() -> None:
    """What is left out is what was told before."""
    out = io.StringIO()
    print_table(REPORT, Console(file=out, width=80))
    assert "450 tok/s" in out.getvalue()
    assert "step ms" not in out.getvalue()
