from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gemmad.tracing.context import TraceContext, is_sampled, new_context, read_context

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


def test_what_a_caller_says() -> None:
    """Ids, the caller's decision and its state are read; several state headers are one list."""
    context = read_context([f"00-{TRACE}-{SPAN}-01"], ["congo=t61", " rojo=00 "])
    assert context == TraceContext(TRACE, SPAN, True, "congo=t61,rojo=00")
    unwanted = read_context([f"00-{TRACE}-{SPAN}-02"])
    assert unwanted is not None
    assert not unwanted.sampled


def test_versions_to_come() -> None:
    """A later version is read as far as this one goes; what it adds is not looked at."""
    assert read_context([f"cc-{TRACE}-{SPAN}-01-what-the-future-brings"]) == TraceContext(TRACE, SPAN, True)


@pytest.mark.parametrize(
    "said",
    [
        "",
        "00",
        f"00-{TRACE}-{SPAN}",
        f"00-{TRACE}-{SPAN}-01-more",
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE.upper()}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-0g",
        f"00-{TRACE[:-1]}é-{SPAN}-01",
    ],
)
def test_what_makes_no_sense(said: str) -> None:
    """A header that is not one is as if it were missing."""
    assert read_context([said]) is None


def test_two_parents_are_none() -> None:
    """Who names two parents has named none."""
    assert read_context([f"00-{TRACE}-{SPAN}-01"] * 2) is None


@pytest.mark.parametrize("state", ["a=" + "b" * 600, "a=\x00", "a=ü"])
def test_a_state_that_is_not_sane_is_dropped(state: str) -> None:
    """The trace goes on without it."""
    assert read_context([f"00-{TRACE}-{SPAN}-01"], [state]) == TraceContext(TRACE, SPAN, True)


@given(st.text(max_size=80))
def test_no_header_is_too_strange(said: str) -> None:
    """Whatever is sent, nothing is raised, and what is read is well-formed."""
    context = read_context([said])
    assert context is None or (len(context.trace_id), len(context.parent_id)) == (32, 16)


def test_shares() -> None:
    """All, none, or about a share of traces are sampled; one trace always gets the same answer."""
    begun = [new_context(0.25) for _ in range(2000)]
    assert 380 < sum(one.sampled for one in begun) < 620
    assert all(one.sampled == is_sampled(one.trace_id, 0.25) for one in begun)
    assert all(is_sampled(one.trace_id, 1.0) and not is_sampled(one.trace_id, 0.0) for one in begun)
    assert len({one.trace_id for one in begun}) == 2000
