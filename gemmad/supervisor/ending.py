"""How a life ended: why in words, whose fault, and whether a request may be to blame. Pure."""

from __future__ import annotations

import signal

from msgspec import Struct

from gemmad.protocol.messages import EXIT_ASKED, EXIT_DEVICE_LOST, EXIT_SETTINGS
from gemmad.supervisor.listener import Verdict
from gemmad.supervisor.process import DUMP_SIGNAL, explain_exit
from gemmad.supervisor.restart import Fault, FaultKind, judge_exit

OUR_SIGNALS = frozenset({-signal.SIGKILL, -signal.SIGTERM, -DUMP_SIGNAL})
"""Exits that say no more than what was known before."""
TELLING = frozenset({EXIT_ASKED, EXIT_SETTINGS, EXIT_DEVICE_LOST})


class Evidence(Struct, frozen=True, kw_only=True):
    """What is known of a life that is over."""

    exit_code: int
    """As subprocess counts: negative is the signal that killed it."""
    asked: bool
    """It was told to exit, or its end was wanted anyway."""
    draining: bool
    doom: Fault | None = None
    """What was known against it before its exit."""
    from_outside: bool = False
    """Somebody had stopped it."""
    starved: str | None = None
    """The kernel killed for lack of memory just then, in words."""
    short: str | None = None
    """It was begun though its GPU's memory was not free, in words."""
    last_line: str = ""


class Ending(Struct, frozen=True):
    """What follows from it."""

    kind: FaultKind | None
    """None: no fault."""
    verdict: Verdict
    reason: str


def judge_end(evidence: Evidence) -> Ending:
    """One ending for every life."""
    doom = evidence.doom
    kind = judge_exit(
        evidence.exit_code, asked=evidence.asked, draining=evidence.draining, doom=doom.kind if doom else None
    )
    if kind is FaultKind.SETTINGS and evidence.short:
        kind = FaultKind.CRASH  # other settings are not what it waits for
    killed = doom is None and evidence.exit_code == -signal.SIGKILL and evidence.starved is None
    innocent = kind is None or killed or evidence.from_outside
    return Ending(kind, Verdict.INNOCENT if innocent else Verdict.SUSPECT, _explain(evidence))


def _explain(evidence: Evidence) -> str:
    reason = _explain_exit(evidence)
    return f"{reason}; it was begun although {evidence.short}" if evidence.short and not evidence.asked else reason


def _explain_exit(evidence: Evidence) -> str:
    code, doom = evidence.exit_code, evidence.doom
    how = explain_exit(code)
    if code == EXIT_ASKED and doom is None:
        return "exited as asked" if evidence.asked or evidence.draining else "exited though nobody asked it to"
    if doom is not None:
        return doom.reason if code in OUR_SIGNALS | TELLING else f"{doom.reason}; {how}"
    if code == -signal.SIGKILL:
        return evidence.starved or f"killed by SIGKILL from outside (exit {code})"
    return f"{how}: {evidence.last_line}" if code > 0 and evidence.last_line else how
