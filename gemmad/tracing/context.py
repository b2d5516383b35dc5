"""W3C Trace Context: what a caller says of the trace that a request belongs to, and what goes on from there.

https://www.w3.org/TR/trace-context/
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Sequence

from msgspec import Struct

STATE_LIMIT = 512
"""Characters of `tracestate` that are kept; a longer one is dropped as a whole, as the standard allows."""

_PARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-[ -~]*)?", re.ASCII)
_SAMPLED = 0x01


class TraceContext(Struct, frozen=True):
    """One request's place in a trace."""

    trace_id: str
    """32 hexadecimal digits."""
    parent_id: str
    """16 digits, the caller's span; empty where the trace begins here."""
    sampled: bool
    """Whether anybody wants its spans. A caller's word is kept."""
    state: str = ""
    """`tracestate`, handed on as it came."""


def read_context(parents: Sequence[str], states: Sequence[str] = ()) -> TraceContext | None:
    """What the headers `traceparent` and `tracestate` say; None where they are missing or make no sense."""
    if len(parents) != 1:
        return None
    match = _PARENT.fullmatch(parents[0].strip())
    if match is None:
        return None
    version, trace_id, parent_id, flags, more = match.groups()
    if version == "ff" or (version == "00" and more) or not int(trace_id, 16) or not int(parent_id, 16):
        return None
    state = ",".join(part for each in states if (part := each.strip()))
    if len(state) > STATE_LIMIT or not (state.isascii() and state.isprintable()):
        state = ""
    return TraceContext(trace_id, parent_id, bool(int(flags, 16) & _SAMPLED), state)


def new_context(share: float) -> TraceContext:
    """The beginning of a trace; a `share` of them, 0 to 1, is sampled."""
    trace_id = new_id(16)
    return TraceContext(trace_id, "", is_sampled(trace_id, share))


def is_sampled(trace_id: str, share: float) -> bool:
    """The same for one trace wherever it is asked: by the second half of its id, as OpenTelemetry's samplers do."""
    return int(trace_id[16:], 16) < share * 2**64


def new_id(size: int) -> str:
    """An id of `size` bytes, in hexadecimal, not all zeros."""
    while not int(made := secrets.token_hex(size), 16):
        pass
    return made
