"""Bytes in words."""

from __future__ import annotations

_UNITS = ("KiB", "MiB", "GiB", "TiB")


def format_bytes(count: int) -> str:
    """For people: `22.71 GiB`, `800 B`. Rounded to two places."""
    amount = float(count)
    if abs(amount) < 1024:
        return f"{count} B"
    for unit in _UNITS:
        amount /= 1024
        if abs(amount) < 1024:
            return f"{amount:.2f} {unit}"
    return f"{amount:.2f} {_UNITS[-1]}"


def setting_bytes(count: int, *, up: bool) -> str:
    """For a configuration file: whole MiB (KiB where there are few), rounded `up` or down."""
    size, unit = (1 << 20, "MiB") if count >= 16 << 20 else (1 << 10, "KiB")
    return f"{-(-count // size) if up else count // size}{unit}"
