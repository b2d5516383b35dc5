"""What a worker prints, in the daemon's log: events that it logged stay the events that they are, other lines are
shown as they came."""

from __future__ import annotations

import json
import logging
import re
from typing import Any

from gemmad.logs import get_logger

log = get_logger("gemmad.supervisor")

_LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40, "critical": 50}
_FIELD = re.compile(r"[a-z][a-z0-9_]*", re.ASCII)
_NOT_FIELDS = frozenset(
    {"timestamp", "level", "logger", "event", "worker", "life"}
    | {"exc_info", "stack_info", "stacklevel", "positional_args", "extra"}
)
"""What is said anyway, and what the logging library takes for something else."""


def relay(line: str, *, worker: str, life: int) -> str:
    """Log a line, and return what to quote of it."""
    event = _event(line)
    if event is None:
        log.info("worker output", worker=worker, life=life, line=line)
        return line
    name = str(event.get("logger", ""))
    logger = get_logger(name if name.startswith("gemmad.") else "gemmad.worker")
    fields = {key: value for key, value in event.items() if key not in _NOT_FIELDS and _FIELD.fullmatch(key)}
    level = _LEVELS.get(str(event["level"]), logging.INFO)
    logger.log(level, str(event["event"]), worker=worker, life=life, **fields)
    return str(event["event"])


def _event(line: str) -> dict[str, Any] | None:
    """A line of `gemmad.logs` in its JSON format."""
    if not line.startswith('{"timestamp"'):
        return None
    try:
        event = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return event if isinstance(event, dict) and "event" in event and "level" in event else None
