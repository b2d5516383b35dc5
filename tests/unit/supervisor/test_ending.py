"""How a life ended: words, fault and verdict."""

from __future__ import annotations

import signal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gemmad.supervisor.ending import Cause, Evidence, judge_end
from gemmad.supervisor.listener import Verdict
from gemmad.supervisor.restart import Fault, FaultKind

HUNG = Fault(FaultKind.CRASH, "its step loop was silent for 30 s")
KILLED = -signal.SIGKILL


def evidence(exit_code: int, **known: Any) -> Evidence:
    return Evidence(exit_code=exit_code, **{"asked": False, "draining": False, **known})


@pytest.mark.parametrize(
    ("known", "kind", "verdict", "reason"),
    [
        (evidence(0, asked=True), None, Verdict.INNOCENT, "exited as asked"),
        (evidence(0, draining=True), None, Verdict.INNOCENT, "exited as asked"),
        (evidence(0), FaultKind.CRASH, Verdict.SUSPECT, "exited though nobody asked it to"),
        (evidence(1, last_line="assert"), FaultKind.CRASH, Verdict.SUSPECT, "exited with status 1: assert"),
        (evidence(KILLED), FaultKind.CRASH, Verdict.INNOCENT, "killed by SIGKILL from outside (exit -9)"),
        (evidence(KILLED, starved="killed by the kernel"), FaultKind.CRASH, Verdict.SUSPECT, "killed by the kernel"),
        (evidence(KILLED, doom=HUNG), FaultKind.CRASH, Verdict.SUSPECT, HUNG.reason),
        (evidence(KILLED, doom=HUNG, starved="no"), FaultKind.CRASH, Verdict.SUSPECT, HUNG.reason),
        (evidence(KILLED, doom=HUNG, from_outside=True), FaultKind.CRASH, Verdict.INNOCENT, HUNG.reason),
        (evidence(-signal.SIGUSR1, doom=HUNG), FaultKind.CRASH, Verdict.SUSPECT, HUNG.reason),
        (evidence(-11, doom=HUNG), FaultKind.CRASH, Verdict.SUSPECT, f"{HUNG.reason}; killed by SIGSEGV"),
        (evidence(3, last_line="no weights"), FaultKind.SETTINGS, Verdict.SUSPECT, "cannot work (exit 3): no weights"),
        (evidence(3, short="it is full"), FaultKind.CRASH, Verdict.SUSPECT, "; it was begun although it is full"),
        (evidence(0, asked=True, short="it is full"), None, Verdict.INNOCENT, "exited as asked"),
        (evidence(4), FaultKind.DEVICE_LOST, Verdict.SUSPECT, "its GPU is lost (exit 4)"),
    ],
)
def test_endings(known: Evidence, kind: FaultKind | None, verdict: Verdict, reason: str) -> None:
    """What was known, and the exit, make one reason; a request is suspected unless somebody else did it."""
    ending = judge_end(known)
    assert (ending.kind, ending.verdict) == (kind, verdict)
    assert reason in ending.reason


@pytest.mark.parametrize(
    ("known", "cause"),
    [
        (evidence(0, asked=True), None),
        (evidence(1), Cause.CRASH),
        (evidence(-signal.SIGSEGV), Cause.CRASH),
        (evidence(0), Cause.EXIT),
        (evidence(KILLED), Cause.KILLED),
        (evidence(KILLED, starved="killed by the kernel"), Cause.MEMORY),
        (evidence(KILLED, served=False, starved="killed by the kernel"), Cause.MEMORY),
        (evidence(1, served=False), Cause.LOAD_FAILED),
        (evidence(KILLED, served=False), Cause.LOAD_FAILED),
        (evidence(KILLED, served=False, doom=HUNG, hung=True), Cause.LOAD_FAILED),
        (evidence(3, served=False, short="it is full"), Cause.MEMORY),
        (evidence(1, short="it is full"), Cause.CRASH),
        (evidence(3, served=False), Cause.SETTINGS),
        (evidence(4), Cause.DEVICE_LOST),
        (evidence(KILLED, doom=Fault(FaultKind.DEVICE_LOST, "Xid 79")), Cause.DEVICE_LOST),
        (evidence(KILLED, doom=HUNG, hung=True), Cause.HANG),
        (evidence(KILLED, doom=Fault(FaultKind.CRASH, "it broke the protocol")), Cause.CRASH),
    ],
)
def test_causes(known: Evidence, cause: Cause | None) -> None:
    """Each end that is a fault has one word to be counted by; an end that was asked for has none."""
    assert judge_end(known).cause is cause


@given(
    st.builds(
        Evidence,
        exit_code=st.integers(-64, 255),
        asked=st.booleans(),
        draining=st.booleans(),
        served=st.booleans(),
        hung=st.booleans(),
        doom=st.sampled_from([None, HUNG, Fault(FaultKind.DEVICE_LOST, "Xid 79")]),
        from_outside=st.booleans(),
        starved=st.sampled_from([None, "killed by the kernel"]),
        short=st.sampled_from([None, "it is full"]),
        last_line=st.sampled_from(["", "oh"]),
    )
)
def test_every_end_is_judged(known: Evidence) -> None:
    """No combination is without words, and who did as it was told is never suspected."""
    ending = judge_end(known)
    assert ending.reason
    assert (ending.cause is None) == (ending.kind is None)
    if ending.kind is None:
        assert ending.verdict is Verdict.INNOCENT
