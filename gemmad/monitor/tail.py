"""The last lines of the log, for whoever looks at the daemon from a page."""

from __future__ import annotations

import contextlib
import datetime
import logging
import math
import os
import sys
from collections import deque
from collections.abc import Iterator, Mapping
from itertools import islice
from types import TracebackType
from typing import Any

from msgspec import Struct

from gemmad.logs import WITHHELD

KEPT_LINES = 500
EVENT_CHARACTERS = 300
VALUE_CHARACTERS = 500
NAME_CHARACTERS = 64
MOST_FIELDS = 32

_KNOWN = frozenset({"event", "level", "logger", "timestamp", "exc_info", "exception", "stack_info", "stack"})
_EXACT_INTEGERS = 1 << 53
"""What is beyond would be rounded by whoever reads it as JavaScript does."""


class LogLine(Struct, frozen=True, kw_only=True):
    """One event of the daemon's log."""

    number: int
    """Rising by one with each; what was missed is missing."""
    at: str
    """ISO 8601, UTC."""
    level: str
    logger: str
    event: str
    fields: dict[str, Any]
    """Strings, numbers, booleans; the rest as text. Never what people wrote."""


class LogTail(logging.Handler):
    """Keeps what is logged, from any thread. What is long is cut: a line takes some kilobytes at most."""

    def __init__(self, *, limit: int = KEPT_LINES) -> None:
        super().__init__()
        self._lines: deque[LogLine] = deque(maxlen=limit)
        self._number = 0
        self._guard = self.lock or contextlib.nullcontext()

    def emit(self, record: logging.LogRecord) -> None:
        """One more line; the oldest goes if there are too many."""
        try:
            self._number += 1  # under the handler's lock, as all of this
            self._lines.append(_line(record, self._number))
        except Exception:  # a log line never fails the one who writes it
            self.handleError(record)

    def after(self, number: int) -> tuple[LogLine, ...]:
        """Those with a number above this one that are still there, the oldest first."""
        with self._guard:
            newer = min(max(self._number - number, 0), len(self._lines))
            return tuple(islice(self._lines, len(self._lines) - newer, None)) if newer else ()

    @contextlib.contextmanager
    def attached(self) -> Iterator[LogTail]:
        """Hear all that is logged, as long as this lasts."""
        root = logging.getLogger()
        root.addHandler(self)
        try:
            yield self
        finally:
            root.removeHandler(self)
            self.close()


def _line(record: logging.LogRecord, number: int) -> LogLine:
    # gemmad's own events are dictionaries that other handlers read too; those of libraries are text
    event: Mapping[str, Any] = record.msg if isinstance(record.msg, dict) else {}
    fields = {
        _cut(str(name), NAME_CHARACTERS): "(withheld)" if name in WITHHELD else _value(value)
        for name, value in islice(event.items(), MOST_FIELDS)
        if name not in _KNOWN
    }
    fault = _fault(event.get("exc_info") or record.exc_info)
    if fault is not None:
        fields["exception"] = fault
    return LogLine(
        number=number,
        at=str(event.get("timestamp") or _moment(record.created)),
        level=record.levelname.lower(),
        logger=_cut(record.name, NAME_CHARACTERS),
        event=_cut(str(event.get("event", "")) if event else record.getMessage(), EVENT_CHARACTERS),
        fields=fields,
    )


def _value(value: Any) -> str | int | float | bool | None:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int) and abs(value) < _EXACT_INTEGERS:
        return int(value)  # and no enumeration
    if isinstance(value, float) and math.isfinite(value):
        return float(value)
    return _cut(value if isinstance(value, str) else str(value), VALUE_CHARACTERS)


def _fault(exc_info: Any) -> str | None:
    """The kind of an exception and where it was raised. Its words may quote what somebody wrote."""
    if exc_info is True:
        exc_info = sys.exc_info()
    if isinstance(exc_info, BaseException):
        exc_info = (type(exc_info), exc_info, exc_info.__traceback__)
    if not isinstance(exc_info, tuple) or exc_info[0] is None:
        return None
    kind, _, trace = exc_info
    return f"{kind.__name__} in {_place(trace)}" if trace is not None else str(kind.__name__)


def _place(trace: TracebackType) -> str:
    while trace.tb_next is not None:
        trace = trace.tb_next
    code = trace.tb_frame.f_code
    return f"{code.co_name} ({os.path.basename(code.co_filename)}:{trace.tb_lineno})"


def _moment(seconds: float) -> str:
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).isoformat().replace("+00:00", "Z")


def _cut(text: str, characters: int) -> str:
    return text if len(text) <= characters else f"{text[: characters - 1]}…"
