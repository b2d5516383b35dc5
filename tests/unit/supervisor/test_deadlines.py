"""How long a worker may stay as it is."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gemmad.config.schema import WorkersSection
from gemmad.supervisor.deadlines import Alarm, Times, next_deadline
from gemmad.supervisor.lifecycle import AT_REST, State

SECTION = WorkersSection(hang_timeout=30, load_timeout=600, stop_grace=10)


def times(state: State, **known: Any) -> Times:
    return Times(state=state, **{"entered_at": 100.0, "looked_at": 100.0, **known})


@pytest.mark.parametrize(
    ("known", "at", "alarm"),
    [
        (times(State.STARTING, heard_at=105.0), 705.0, Alarm.EXAMINE),
        (times(State.READY, heard_at=105.0), 135.0, Alarm.EXAMINE),
        (times(State.DRAINING, heard_at=105.0, drain_until=110.0), 110.0, Alarm.STOP),
        (times(State.DRAINING, heard_at=105.0, drain_until=900.0), 135.0, Alarm.EXAMINE),
        (times(State.STOPPING, heard_at=105.0), 105.0, Alarm.TERMINATE),
        (times(State.STOPPING, heard_at=105.0, terminated=True), 110.0, Alarm.KILL),
        (times(State.HUNG, heard_at=70.0), 101.0, Alarm.KILL),
        (times(State.KILLING, heard_at=70.0, looked_at=110.0), 120.0, Alarm.WONDER),
        (times(State.READY, heard_at=105.0, exited_at=106.0), 107.0, Alarm.END),
        (times(State.BACKOFF, retry_at=160.0), 160.0, Alarm.BEGIN),
        (times(State.FAILED, retry_at=160.0), 160.0, Alarm.BEGIN),
        (times(State.WAITING, opens_at=160.0), 160.0, Alarm.START_ALL_THE_SAME),
    ],
)
def test_deadlines(known: Times, at: float, alarm: Alarm) -> None:
    """Each state has its own, from when it was entered or from the last sign of life."""
    deadline = next_deadline(known, SECTION)
    assert deadline is not None
    assert (deadline.at, deadline.alarm) == (at, alarm)


@pytest.mark.parametrize("known", [times(State.STOPPED), times(State.FAILED), times(State.WAITING)])
def test_what_waits_for_somebody(known: Times) -> None:
    """Stopped, failed for its settings, or without its GPU: until somebody says something."""
    assert next_deadline(known, SECTION) is None


@given(
    st.sampled_from([state for state in State if state not in AT_REST]),
    st.floats(0, 1e6),
    st.none() | st.floats(0, 1e6),
    st.booleans(),
    st.none() | st.floats(0, 1e6),
)
def test_no_process_is_without_a_deadline(
    state: State, heard_at: float, drain_until: float | None, terminated: bool, exited_at: float | None
) -> None:
    """Whatever is known of a process, something happens at some time."""
    known = times(state, heard_at=heard_at, drain_until=drain_until, terminated=terminated, exited_at=exited_at)
    assert next_deadline(known, SECTION) is not None
