"""What the service manager is told, in systemd's sd_notify protocol; without a service manager nobody is told.

One datagram of `KEY=value` lines to the socket in $NOTIFY_SOCKET. The protocol is fixed, the library would be larger.
"""

from __future__ import annotations

import array
import os
import socket
import time
from collections.abc import Mapping, Sequence

_SEND_TIMEOUT_SECONDS = 0.5


class Notifier:
    """The daemon's word to its service manager. Nothing here raises: a manager that is deaf is no fault of ours."""

    def __init__(self, env: Mapping[str, str], *, pid: int | None = None) -> None:
        self._address = _address(env.get("NOTIFY_SOCKET", ""))
        self._watchdog_seconds = _watchdog_seconds(env, os.getpid() if pid is None else pid)
        self._is_ready = False
        self._words = ""
        self._reload_words = ""

    @property
    def watchdog_seconds(self) -> float | None:
        """Without a `watchdog()` for so long the manager kills us; None when it does not watch."""
        return self._watchdog_seconds

    def status(self, words: str) -> bool:
        """Show `words` in `systemctl status`, before what came of the last reload."""
        self._words = words
        return self._send(self._status())

    def ready(self, words: str = "") -> bool:
        """Starting is done: requests are answered."""
        self._is_ready = True
        self._words = words
        return self._send("READY=1", self._status())

    def reloading(self) -> bool:
        """A new config is read. Before `ready` this is part of starting and nothing is said."""
        if not self._is_ready:
            return False
        return self._send("RELOADING=1", f"MONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")

    def reloaded(self, words: str) -> bool:
        """The end of `reloading`, whether the config was taken or refused."""
        self._reload_words = words
        return self._send("READY=1" if self._is_ready else "", self._status())

    def stopping(self, words: str = "") -> bool:
        """No new requests are taken."""
        self._is_ready = False
        return self._send("STOPPING=1", _status(words))

    def extend_timeout(self, seconds: float) -> bool:
        """Starting, reloading or stopping goes on: wait at least `seconds` from now."""
        return self._send(f"EXTEND_TIMEOUT_USEC={round(seconds * 1_000_000)}")

    def watchdog(self) -> bool:
        """The daemon makes progress."""
        return self._send("WATCHDOG=1")

    def keep(self, name: str, descriptors: Sequence[int]) -> bool:
        """Have the manager hold duplicates of `descriptors`; the next daemon is handed them under this name."""
        return self._send("FDSTORE=1", f"FDNAME={name}", descriptors=descriptors)

    def let_go(self, name: str) -> bool:
        """The manager closes all that it holds under this name."""
        return self._send("FDSTOREREMOVE=1", f"FDNAME={name}")

    def _status(self) -> str:
        return _status("; ".join(words for words in (self._words, self._reload_words) if words))

    def _send(self, *lines: str, descriptors: Sequence[int] = ()) -> bool:
        """Whether the manager's socket took it."""
        if self._address is None:
            return False
        data = "\n".join(line for line in lines if line).encode(errors="replace")
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
                sock.settimeout(_SEND_TIMEOUT_SECONDS)
                sock.sendmsg([data], _ancillary(descriptors), 0, self._address)
        except OSError:
            return False
        return True


def _ancillary(descriptors: Sequence[int]) -> list[tuple[int, int, array.array[int]]]:
    return [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))] if descriptors else []


def _status(words: str) -> str:
    """One line: a newline would begin another message."""
    return f"STATUS={' '.join(words.split())}" if words else ""


def _address(named: str) -> str | None:
    if named.startswith("@"):  # the abstract namespace
        return "\0" + named[1:]
    return named if named.startswith("/") else None


def _watchdog_seconds(env: Mapping[str, str], pid: int) -> float | None:
    meant_for = env.get("WATCHDOG_PID", "")
    microseconds = env.get("WATCHDOG_USEC", "")
    if not microseconds.isdecimal() or (meant_for and meant_for != str(pid)):
        return None
    return int(microseconds) / 1_000_000 or None
