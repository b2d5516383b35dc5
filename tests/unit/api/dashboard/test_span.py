from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gemmad.api.dashboard.span import LIMIT, MOST, Span, span_of
from gemmad.errors import InvalidRequestError

NOW = 1_800_000_000.0
HOUR, DAY = 3600.0, 86_400.0


@pytest.mark.parametrize(
    ("query", "span"),
    [
        ({}, Span(NOW - DAY, NOW, LIMIT)),
        ({"since": "", "until": "", "limit": ""}, Span(NOW - DAY, NOW, LIMIT)),
        ({"since": "7d", "until": "1h30m"}, Span(NOW - 7 * DAY, NOW - 1.5 * HOUR, LIMIT)),
        ({"since": "90"}, Span(NOW - 90, NOW, LIMIT)),
        ({"since": str(NOW - 5), "until": str(NOW - 1)}, Span(NOW - 5, NOW - 1, LIMIT)),
        ({"limit": "1"}, Span(NOW - DAY, NOW, 1)),
    ],
)
def test_spans(query: dict[str, str], span: Span) -> None:
    """Each end is a duration before now or a moment since the epoch; the last day, where nothing is said."""
    assert span_of(query, now=NOW) == span


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ({"since": "yesterday"}, "since"),
        ({"since": "nan"}, "since"),
        ({"since": "inf"}, "since"),
        ({"since": "-1"}, "since"),
        ({"since": "1h", "until": "2h"}, "since"),
        ({"until": "9" * 200}, "until"),
        ({"limit": "0"}, "limit"),
        ({"limit": str(MOST + 1)}, "limit"),
        ({"limit": "1.5"}, "limit"),
        ({"limit": "٣"}, "limit"),
        ({"limit": "9" * 5000}, "limit"),
    ],
)
def test_what_is_no_span(query: dict[str, str], param: str) -> None:
    """What cannot be meant is refused by its name."""
    with pytest.raises(InvalidRequestError) as refusal:
        span_of(query, now=NOW)
    assert refusal.value.param == param


@given(st.dictionaries(st.sampled_from(["since", "until", "limit"]), st.text()))
def test_any_query(query: dict[str, str]) -> None:
    """Whatever is asked is either a span with its ends in order, or refused."""
    try:
        span = span_of(query, now=NOW)
    except InvalidRequestError:
        return
    assert 0 <= span.since <= span.until
    assert 1 <= span.limit <= MOST
