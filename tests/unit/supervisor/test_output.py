"""A worker's output in the daemon's log."""

from __future__ import annotations

import io
import json
import logging
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gemmad import logs
from gemmad.supervisor.output import relay


def relayed(line: str, caplog: pytest.LogCaptureFixture) -> tuple[logging.LogRecord, dict[str, Any]]:
    """The record that a line becomes, and its fields."""
    caplog.clear()
    caplog.set_level("DEBUG")
    relay(line, worker="gpu0", life=3)
    (record,) = caplog.records
    fields: Any = record.msg
    return record, fields


def test_a_workers_own_event(caplog: pytest.LogCaptureFixture) -> None:
    """What a worker logs with gemmad's logger is the same event in the daemon's log, with the worker's name."""
    out = io.StringIO()
    before = logging.getLogger().handlers[:], logging.getLogger().level
    try:
        logs.configure("info", "json", stream=out)
        logs.get_logger("gemmad.models.weights").warning("weights loaded", bytes=5, seconds=0.25, worker="liar")
    finally:
        logging.getLogger().handlers[:], logging.getLogger().level = before
    record, fields = relayed(out.getvalue().strip(), caplog)
    assert (record.name, record.levelname) == ("gemmad.models.weights", "WARNING")
    assert fields["event"] == "weights loaded"
    assert (fields["bytes"], fields["seconds"], fields["worker"], fields["life"]) == (5, 0.25, "gpu0", 3)


@pytest.mark.parametrize(
    "line",
    [
        "Segmentation fault",
        '{"timestamp": "cut off in the mid …',
        '{"timestamp": 1}',
        '{"event": "not one of ours", "level": "info"}',
        '{"timestamp": ' + "[" * 100_000,
    ],
)
def test_any_other_line(caplog: pytest.LogCaptureFixture, line: str) -> None:
    """A line that is no event is shown as it came."""
    _, fields = relayed(line, caplog)
    assert (fields["event"], fields["line"]) == ("worker output", line)


def test_what_is_quoted() -> None:
    """The reason of an exit quotes an event's words, not its JSON."""
    assert relay('{"timestamp": 1, "event": "out of luck", "level": "error"}', worker="gpu0", life=1) == "out of luck"
    assert relay("plain", worker="gpu0", life=1) == "plain"


@given(
    st.dictionaries(
        st.sampled_from(
            ["event", "level", "logger", "exc_info", "positional_args", "extra", "_record", "a b", "worker"]
        )
        | st.text(max_size=8),
        st.none() | st.integers() | st.text(max_size=8) | st.lists(st.integers(), max_size=3),
    )
)
def test_no_line_breaks_the_daemon(fields: dict[str, Any]) -> None:
    """Whatever fields a worker makes up, its line is logged."""
    line = json.dumps({"timestamp": 0, "event": "x %s", "level": "info"} | fields)
    handler = logging.StreamHandler(io.StringIO())
    logging.getLogger("gemmad").addHandler(handler)
    try:
        relay(line, worker="gpu0", life=1)
    finally:
        logging.getLogger("gemmad").removeHandler(handler)
