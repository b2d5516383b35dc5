"""How a life ended: why in words, whose fault, and whether a request may be to blame. Pure."""

from __future__ import annotations

import enum
import signal

from msgspec import Struct

from gemmad.protocol.messages import EXIT_ASKED, EXIT_DEVICE_LOST, EXIT_SETTINGS
from gemmad.supervisor.listener import Verdict
from gemmad.supervisor.process import DUMP_SIGNAL, explain_exit
from gemmad.supervisor.restart import Fault, FaultKind, judge_exit

OUR_SIGNALS = frozenset({-signal.SIGKILL, -signal.SIGTERM, -DUMP_SIGNAL})
"""Exits that say no more than what was known before."""
TELLING = frozenset({EXIT_ASKED, EXIT_SETTINGS, EXIT_DEVICE_LOST})


class Cause(enum.Enum):
    """Why a life ended that should not have, as one word to count by."""

    CRASH = "crash"
    """It fell by itself, or broke the protocol."""
    HANG = "hang"
    """It was ready, and then silent for too long."""
    LOAD_FAILED = "load_failed"
    """It never got ready, for none of the other causes."""
    SETTINGS = "settings"
    """Its settings or weights cannot work."""
    DEVICE_LOST = "device_lost"
    MEMORY = "memory"
    """The host's memory was short and the kernel killed it, or its GPU's was not free and it did not get ready."""
    KILLED = "killed"
    """SIGKILL, from outside."""
    EXIT = "exit"
    """It exited with 0, though nobody had asked it to."""


class Evidence(Struct, frozen=True, kw_only=True):
    """What is known of a life that is over."""

    exit_code: int
    """As subprocess counts: negative is the signal that killed it."""
    asked: bool
    """It was told to exit, or its end was wanted anyway."""
    draining: bool
    served: bool = True
    """It was ready once."""
    hung: bool = False
    """It was silent for too long."""
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
    cause: Cause | None
    """None: no fault."""


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
    verdict = Verdict.INNOCENT if innocent else Verdict.SUSPECT
    return Ending(kind, verdict, _explain(evidence), None if kind is None else _cause(evidence, kind))


def _cause(evidence: Evidence, kind: FaultKind) -> Cause:
    told = {FaultKind.DEVICE_LOST: Cause.DEVICE_LOST, FaultKind.SETTINGS: Cause.SETTINGS}.get(kind)
    unannounced = evidence.doom is None
    by_sigkill = unannounced and evidence.exit_code == -signal.SIGKILL
    if told is not None:
        return told
    if (by_sigkill and evidence.starved) or (evidence.short and not evidence.served):
        return Cause.MEMORY
    if not evidence.served:
        return Cause.LOAD_FAILED
    if evidence.hung:
        return Cause.HANG
    if by_sigkill:
        return Cause.KILLED
    return Cause.EXIT if unannounced and evidence.exit_code == EXIT_ASKED else Cause.CRASH


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
