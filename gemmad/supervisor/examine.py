"""What the kernel says of a process that is silent."""

from __future__ import annotations

from pathlib import Path

from msgspec import Struct

PROC = Path("/proc")


class Condition(Struct, frozen=True):
    """Why a process does not move."""

    words: str
    from_outside: bool
    """Somebody holds it; nothing that it computed did."""


def condition_of(pid: int, proc: Path = PROC) -> Condition | None:
    """None where the process could move, or is gone: then the silence is its own. (proc(5), /proc/pid/stat)"""
    try:
        stat = (proc / str(pid) / "stat").read_text(errors="replace")
    except OSError:
        return None
    match stat[stat.rindex(")") + 2]:
        case "T":
            return Condition("it is stopped (SIGSTOP)", from_outside=True)
        case "t":
            return Condition("a debugger holds it", from_outside=True)
        case "D":
            where = _kernel_function(pid, proc)
            return Condition(f"it sits in the kernel{f', in {where}' if where else ''}", from_outside=False)
        case _:
            return None


def _kernel_function(pid: int, proc: Path) -> str:
    try:
        name = (proc / str(pid) / "wchan").read_text().strip()
    except OSError:
        return ""
    return "" if name == "0" else name
