"""Values as people write them in a config file: `"2GiB"`, `"30s"`, `"1h30m"`, `"04:00"`, `"https://chat.example"`."""

from __future__ import annotations

import datetime
import re
from fractions import Fraction
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator

_BYTES = re.compile(r"^\s*(\d+(?:\.\d+)?)\s*(B|[KMGT]i?B?)?\s*$", re.IGNORECASE)
_BYTE_UNITS = {"": 1, "b": 1} | {
    prefix + tail: base**power
    for power, prefix in enumerate("kmgt", start=1)
    for tail, base in (("", 1024), ("i", 1024), ("ib", 1024), ("b", 1000))
}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)", re.IGNORECASE)
_DURATION_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}

_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://(?:[a-z0-9._-]+|\[[0-9a-f:.]+\])(?::\d{1,5})?")
_HOST_NAME = re.compile(r"(?:\*\.)?[a-z0-9_](?:[a-z0-9._-]*[a-z0-9_])?|\[[0-9a-f:.]+\]")
_TIME_OF_DAY = re.compile(r"^\s*([01]?\d|2[0-3]):([0-5]\d)\s*$")


def parse_bytes(value: Any) -> Any:
    """`"2GiB"`, `"512M"` (binary), `"1GB"` (decimal) or a number of bytes → int. Raises ValueError."""
    if not isinstance(value, str):
        return value
    match = _BYTES.match(value)
    if not match:
        raise ValueError(f"{value!r} is not a size; write for example 512MiB or 2GiB")
    return int(Fraction(match[1]) * _BYTE_UNITS[(match[2] or "").lower()])  # a float would round large sizes


def parse_duration(value: Any) -> Any:
    """`"30s"`, `"250ms"`, `"1h30m"` or a number of seconds → float. Raises ValueError."""
    if not isinstance(value, str):
        return value
    text = value.strip()
    try:
        return float(text)
    except ValueError:
        pass
    parts = _DURATION.findall(text)
    if not parts or _DURATION.sub("", text).strip():
        raise ValueError(f"{value!r} is not a duration; write for example 30s, 5m or 1h30m")
    return sum(float(number) * _DURATION_UNITS[unit.lower()] for number, unit in parts)


def parse_time_of_day(value: Any) -> Any:
    """`"4:00"`, or a local time of TOML → `"04:00"`. Raises ValueError."""
    if isinstance(value, datetime.time) and (value.second, value.microsecond, value.tzinfo) == (0, 0, None):
        return f"{value:%H:%M}"
    match = _TIME_OF_DAY.match(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError(f"{value!r} is not a time of day; write for example 04:00 or 23:30")
    return f"{int(match[1]):02}:{match[2]}"


def check_origin(value: str) -> str:
    """`"https://chat.example:8443"` as a browser sends it in `Origin`, or `"*"`. Raises ValueError."""
    text = value.strip().lower()
    if text != "*" and not _ORIGIN.fullmatch(text):
        raise ValueError(f"{value!r} is not an origin; write for example https://chat.example.com, without a path")
    return text


def check_address(value: str) -> str:
    """A URL of http or https with a host, and no user or password in it. Raises ValueError."""
    text = value.strip()
    parts = urlsplit(text)  # raises ValueError itself
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or not text.isprintable():
        raise ValueError(f"{value!r} is not an address; write for example https://alerts.example.com/gemmad")
    return text


def check_host_name(value: str) -> str:
    """A host without scheme and port, `"*.example.com"`, or `"*"`. Raises ValueError."""
    text = value.strip().lower()
    if text != "*" and not _HOST_NAME.fullmatch(text):
        raise ValueError(f"{value!r} is not the name of a host; write for example gpu.example.com, without a port")
    return text


Bytes = Annotated[int, BeforeValidator(parse_bytes)]
Seconds = Annotated[float, BeforeValidator(parse_duration)]
TimeOfDay = Annotated[str, BeforeValidator(parse_time_of_day)]
Origin = Annotated[str, AfterValidator(check_origin)]
Address = Annotated[str, AfterValidator(check_address)]
HostName = Annotated[str, AfterValidator(check_host_name)]
