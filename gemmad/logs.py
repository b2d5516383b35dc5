"""Logs are events: a fixed message with its values as fields, one line each, on standard error.

gemmad's own loggers and those of the libraries meet in the root logger, so one handler decides how a line looks:
coloured words on a terminal, JSON elsewhere, and before each line its priority (`<6>`) where the journal reads it.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Mapping, MutableMapping
from typing import Any, TextIO, cast

import structlog

_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
_PRIORITIES = ((logging.CRITICAL, 2), (logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6))
_DEBUG_PRIORITY = 7

_TALKATIVE = (
    "uvicorn",
    "uvicorn.error",
    "uvicorn.access",
    "sse_starlette",
    "httpx",
    "httpcore",
    "watchdog",
    "asyncio",
    "PIL",
)
"""Their INFO and DEBUG name URLs that clients sent, or wake the very file watcher they report on."""

WITHHELD = frozenset({"prompt", "messages", "content", "token_ids", "image", "pixels", "api_key", "authorization"})
"""Fields that no log line shows, whoever passes them."""


def get_logger(name: str) -> structlog.stdlib.BoundLogger:
    """A logger for events: `log.info("worker ready", worker="gpu0", seconds=3.2)`. Works before `configure` too."""
    logger = structlog.wrap_logger(
        logging.getLogger(name),
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.contextvars.merge_contextvars,
            *_COMMON,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
    )
    return cast("structlog.stdlib.BoundLogger", logger)


def configure(level: str, format: str, *, stream: TextIO | None = None, env: Mapping[str, str] | None = None) -> None:
    """Send every log line to `stream` (standard error). `format` is auto, console or json; call it again to change."""
    out = sys.stderr if stream is None else stream
    environment = os.environ if env is None else env
    is_terminal = out.isatty()
    as_text = format == "console" or (format == "auto" and is_terminal)
    colours = is_terminal and not environment.get("NO_COLOR")
    handler = logging.StreamHandler(out)
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[structlog.contextvars.merge_contextvars, *_COMMON],
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            *(_text_renderer(colours) if as_text else _json_renderer()),
        ],
    )
    handler.setFormatter(_WithPriority(formatter) if _is_journal(out, environment) else formatter)
    root = logging.getLogger()
    for old in root.handlers[:]:
        if isinstance(old.formatter, structlog.stdlib.ProcessorFormatter | _WithPriority):
            root.removeHandler(old)
    root.addHandler(handler)
    for name in _TALKATIVE:
        logging.getLogger(name).setLevel(logging.WARNING)
    set_level(level)


def set_level(level: str) -> None:
    """Log events of this severity (debug, info, warning, error) and above from now on."""
    logging.getLogger().setLevel(_LEVELS[level])


def bind_request(**fields: str) -> None:
    """Every line that is logged in this task from now on, and in those that it begins, has these fields, and no others
    that were bound before. A field that a line has itself stays."""
    structlog.contextvars.clear_contextvars()
    structlog.contextvars.bind_contextvars(**fields)


def bound_fields() -> dict[str, str]:
    """What is bound here, for lines that are logged elsewhere on its behalf."""
    return dict(structlog.contextvars.get_contextvars())


def _withhold(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    for name in WITHHELD & event.keys():
        event[name] = "(withheld)"
    return event


_COMMON: list[structlog.typing.Processor] = [
    structlog.stdlib.add_log_level,
    structlog.stdlib.add_logger_name,
    structlog.stdlib.PositionalArgumentsFormatter(),
    structlog.processors.TimeStamper(fmt="iso", utc=True),
    _withhold,
]


def _text_renderer(colours: bool) -> list[structlog.typing.Processor]:
    renderer = structlog.dev.ConsoleRenderer(
        colors=colours, pad_event_to=32, exception_formatter=structlog.dev.plain_traceback
    )
    return [_escape_controls, renderer]


def _json_renderer() -> list[structlog.typing.Processor]:
    renderer = structlog.processors.JSONRenderer(default=str, ensure_ascii=False)
    return [structlog.processors.format_exc_info, _in_reading_order, renderer]


def _in_reading_order(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    first = {name: event.pop(name) for name in ("timestamp", "level", "logger", "event") if name in event}
    return first | dict(event)


def _escape_controls(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """What a client sent may not move the operator's cursor or fake a line."""
    for name, value in event.items():
        if isinstance(value, str) and not value.isprintable():
            event[name] = "".join(c if c.isprintable() else repr(c)[1:-1] for c in value)
    return event


class _WithPriority(logging.Formatter):
    """Lines for the journal, which takes `<N>` at the start of each as its priority."""

    def __init__(self, inner: logging.Formatter) -> None:
        super().__init__()
        self._inner = inner

    def format(self, record: logging.LogRecord) -> str:
        prefix = f"<{_priority(record.levelno)}>"
        return "\n".join(prefix + line for line in self._inner.format(record).split("\n"))


def _priority(level: int) -> int:
    return next((priority for floor, priority in _PRIORITIES if level >= floor), _DEBUG_PRIORITY)


def _is_journal(stream: TextIO, env: Mapping[str, str]) -> bool:
    """Whether `stream` is the socket that systemd named in JOURNAL_STREAM as device:inode."""
    try:
        status = os.fstat(stream.fileno())
    except (OSError, ValueError):  # no file behind it
        return False
    return env.get("JOURNAL_STREAM", "") == f"{status.st_dev}:{status.st_ino}"
