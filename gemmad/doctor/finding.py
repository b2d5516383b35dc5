"""What a check found: one line, and what to do about it."""

from __future__ import annotations

import enum
import re
from collections.abc import Iterable

from msgspec import Struct


class Level(enum.Enum):
    """How it stands with one thing."""

    OK = "ok"
    WARN = "warn"
    """It works, and not as well or as safely as it could."""
    FAIL = "fail"
    """It does not work, or will not."""
    SKIP = "skip"
    """It does not apply here, or only somebody else may look."""


class Finding(Struct, frozen=True, kw_only=True):
    """One line of the report."""

    group: str
    name: str
    level: Level
    words: str
    remedy: str = ""
    """What to do; empty where there is nothing to."""
    details: tuple[str, ...] = ()


def ok(group: str, name: str, words: str, *, details: Iterable[str] = ()) -> Finding:
    """It is as it should be."""
    return _finding(Level.OK, group, name, words, "", details)


def skip(group: str, name: str, words: str, *, remedy: str = "") -> Finding:
    """There is nothing to look at."""
    return _finding(Level.SKIP, group, name, words, remedy, ())


def warn(group: str, name: str, words: str, *, remedy: str, details: Iterable[str] = ()) -> Finding:
    """It could be better."""
    return _finding(Level.WARN, group, name, words, remedy, details)


def fail(group: str, name: str, words: str, *, remedy: str, details: Iterable[str] = ()) -> Finding:
    """It is broken."""
    return _finding(Level.FAIL, group, name, words, remedy, details)


def shareable(text: str) -> str:
    """On one line, and without what looks like a key, a token or a password: reports are pasted into issues."""
    line = "".join(character if character.isprintable() else " " for character in text)
    for pattern, replacement in _SECRETS:
        line = pattern.sub(replacement, line)
    return line


_SECRETS = (
    (re.compile(r"\b(sk-|hf_|ghp_|xox[a-z]-)[\w-]{6,}"), r"\1…"),
    (re.compile(r"(?i)\b(bearer\s+|token=|key=|password=|secret=)[^\s&'\"]+"), r"\1…"),
    (re.compile(r"://[^\s/@'\"]+@"), "://…@"),
    (re.compile(r"\b(https?://[^\s/'\"]+)/[^\s'\"]*[?/][^\s'\"]{12,}"), r"\1/…"),
)
"""The last is for webhooks, whose path is their password."""


def _finding(level: Level, group: str, name: str, words: str, remedy: str, details: Iterable[str]) -> Finding:
    return Finding(
        group=group,
        name=name,
        level=level,
        words=shareable(words),
        remedy=shareable(remedy),
        details=tuple(map(shareable, details)),
    )
