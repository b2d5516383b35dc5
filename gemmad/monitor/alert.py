"""A threshold that is crossed."""

from __future__ import annotations

from msgspec import Struct


class Alert(Struct, frozen=True, kw_only=True):
    """One that is crossed as of now."""

    level: str
    """warning or critical"""
    about: str
    """Which memory: `kv`, `vram`, `host`, `drift`, ..."""
    worker: str | None
    share: float
    words: str
    action: str
    """What to do about it."""
    since_seconds: float
