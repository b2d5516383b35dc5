from __future__ import annotations

import pytest
from starlette.datastructures import Headers

from gemmad.api.record import new_record


def test_what_the_sdk_tells() -> None:
    """The SDK's retry count and timeout are in the record, nonsense is not."""
    headers = Headers({"x-stainless-retry-count": "2", "x-stainless-read-timeout": "600"})
    record = new_record(headers, method="POST", path="/", began=0.0)
    assert (record.retry_count, record.read_timeout) == (2, 600.0)
    headers = Headers({"x-stainless-retry-count": "-1", "x-stainless-read-timeout": "soon"})
    record = new_record(headers, method="POST", path="/", began=0.0)
    assert (record.retry_count, record.read_timeout) == (None, None)


@pytest.mark.parametrize("asked", ["", " ", "a" * 129, "two\nlines", "nul\0", "ünïcode"])
def test_an_id_that_is_not_sane(asked: str) -> None:
    """An id that could break a log or a header is replaced."""
    record = new_record(Headers(raw=[(b"x-request-id", asked.encode("latin-1"))]), method="GET", path="/", began=0.0)
    assert record.request_id.startswith("req_")


def test_only_what_is_known_is_written() -> None:
    """The line has the values that came to be known, and how long it took."""
    record = new_record(Headers({"x-request-id": "abc"}), method="GET", path="/health", began=0.0)
    record.status = 200
    assert record.fields(0.12345) == {
        "request_id": "abc",
        "method": "GET",
        "path": "/health",
        "status": 200,
        "seconds": 0.1235,
    }
