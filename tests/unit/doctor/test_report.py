"""How findings are shown."""

from __future__ import annotations

import pytest

from gemmad.doctor.finding import Level, fail, ok, shareable, skip, warn
from gemmad.doctor.report import has_failed, rendered, summary

LONG = "a fault that needs many words until everything about it has been said, as some do in real life"


def test_the_report() -> None:
    """Groups with a line for each check, what to do below, wrapped at 80 columns, and a sum."""
    findings = (
        ok("GPU", "driver", "580.95"),
        fail("GPU", "memory 0", LONG, remedy=f"do this: {LONG}", details=("first", "second")),
        warn("Host", "clock", "nothing keeps it right", remedy="set it"),
        skip("Service", "unit", "none"),
    )
    lines = [line.plain for line in rendered(findings)]
    assert lines == [
        "GPU",
        "  ok    driver    580.95",
        "  fail  memory 0  a fault that needs many words until everything about it has",
        "                  been said, as some do in real life",
        "      - first",
        "      - second",
        "      > do this: a fault that needs many words until everything about it has",
        "        been said, as some do in real life",
        "",
        "Host",
        "  warn  clock     nothing keeps it right",
        "      > set it",
        "",
        "Service",
        "  skip  unit      none",
        "",
        "1 failure, 1 warning",
    ]
    assert max(map(len, lines)) <= 80
    assert has_failed(findings)


def test_a_sum_of_nothing() -> None:
    """Nothing that is wrong is said to be so."""
    assert summary((ok("a", "b", "c"),)) == "all is well"
    assert not has_failed((warn("a", "b", "c", remedy="d"),))
    assert rendered(())[-1].plain == "all is well"


def test_many_details() -> None:
    """A hundred errors are not printed."""
    lines = [line.plain for line in rendered((fail("a", "b", "c", remedy="d", details=map(str, range(100))),))]
    assert "      - and 80 more" in lines


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("key sk-gemmad-abcdef123456 is wrong", "key sk-… is wrong"),
        ("token hf_abcdefghij", "token hf_…"),
        ("Authorization: Bearer abc.def", "Authorization: Bearer …"),
        ("http://user:pass@host/x", "http://…@host/x"),
        ("got 'https://hooks.example.com/services/T0/B0/abcdefghijklmnop'", "got 'https://hooks.example.com/…'"),
        ("https://example.com/x?token=abc", "https://example.com/x?token=…"),
        ("http://127.0.0.1:4363/v1", "http://127.0.0.1:4363/v1"),
        ("/srv/models/google--gemma-3-4b-it", "/srv/models/google--gemma-3-4b-it"),
        ("a\nb\x1b[2J", "a b [2J"),
    ],
)
def test_what_may_be_shared(text: str, shown: str) -> None:
    """Nothing that looks like a key, a token or a password is in a report, and nothing that moves a cursor."""
    assert shareable(text) == shown
    assert fail("a", "b", text, remedy=text, details=(text,)).words == shown
    assert fail("a", "b", text, remedy=text, details=(text,)).level is Level.FAIL
