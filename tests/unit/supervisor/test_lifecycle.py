"""The table of moves."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gemmad.supervisor.lifecycle import AT_REST, SPEAKING, TRANSITIONS, Event, IllegalMoveError, State, after, diagram

LIFECYCLE_PAGE = Path(__file__).resolve().parents[3] / "docs" / "lifecycle.md"

LEGAL = {state: [event for event in Event if (state, event) in TRANSITIONS] for state in State}


@given(st.data())
def test_legal_scripts_never_end_in_a_trap(data: st.DataObject) -> None:
    """From every state that can be reached there is a move, and a way back to STOPPED."""
    state = State.STOPPED
    for _ in range(data.draw(st.integers(0, 30))):
        assert LEGAL[state]
        state = after(state, data.draw(st.sampled_from(LEGAL[state])))
    assert State.STOPPED in _reachable(state)


def test_every_state_can_be_reached() -> None:
    """No state is there for show."""
    assert _reachable(State.STOPPED) == set(State)


@given(st.sampled_from(State), st.sampled_from(Event))
def test_a_move_is_in_the_table_or_raises(state: State, event: Event) -> None:
    """What the table does not hold is refused, with both names."""
    if (state, event) in TRANSITIONS:
        assert after(state, event) is TRANSITIONS[state, event]
    else:
        with pytest.raises(IllegalMoveError, match=re.escape(repr(event.value))):
            after(state, event)


@pytest.mark.parametrize("state", [state for state in State if state in AT_REST])
def test_only_a_start_leads_from_rest_to_a_process(state: State) -> None:
    """A state without a process is left by a start, for the wait before one, or for STOPPED."""
    led = {Event.START: State.STARTING, Event.WAIT: State.WAITING, Event.STOP: State.STOPPED}
    for event in LEGAL[state]:
        assert after(state, event) is led[event]


@pytest.mark.parametrize("state", [state for state in State if state not in AT_REST])
def test_a_process_can_crash_and_be_killed_in_every_state(state: State) -> None:
    """Wherever a process is, its death has a place to go to."""
    assert after(state, Event.CRASHED) is State.BACKOFF
    assert after(state, Event.GAVE_UP) is State.FAILED
    if state is not State.KILLING:
        assert after(state, Event.KILL) is State.KILLING


def test_requests_come_only_after_it_has_served() -> None:
    """READY is entered by SERVED from STARTING and by nothing else."""
    into = [(state, event) for (state, event), following in TRANSITIONS.items() if following is State.READY]
    assert into == [(State.STARTING, Event.SERVED)]
    assert State.READY in SPEAKING


def test_the_docs_show_the_table() -> None:
    """The diagram in docs/lifecycle.md is the table's, and every state is explained there."""
    text = LIFECYCLE_PAGE.read_text()
    assert f"```mermaid\n{diagram()}```" in text
    for state in State:
        assert f"| `{state.name}` |" in text


def _reachable(start: State) -> set[State]:
    found, open_states = {start}, [start]
    while open_states:
        state = open_states.pop()
        for event in LEGAL[state]:
            if (following := after(state, event)) not in found:
                found.add(following)
                open_states.append(following)
    return found
