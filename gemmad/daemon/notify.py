"""What the service manager is told, in systemd's sd_notify protocol; without a service manager nobody is told.

One datagram of `KEY=value` lines to the socket in $NOTIFY_SOCKET. The protocol is fixed, the library would be larger.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping

_SEND_TIMEOUT_SECONDS = 0.5


class Notifier:
    """The daemon's word to its service manager. Nothing here raises: a manager that is deaf is no fault of ours."""

    def __init__(self, env: Mapping[str, str], *, pid: int | None = None) -> None:
        self._address = _address(env.get("NOTIFY_SOCKET", ""))
        self._watchdog_seconds = _watchdog_seconds(env, os.getpid() if pid is None else pid)
        self._is_ready = False

    @property
    def watchdog_seconds(self) -> float | None:
        """Without a `watchdog()` for so long the manager kills us; None when it does not watch."""
        return self._watchdog_seconds

    def status(self, words: str) -> bool:
        """Show `words` in `systemctl status`."""
        return self._send(_status(words))

    def ready(self, words: str = "") -> bool:
        """Starting is done: requests are answered."""
        self._is_ready = True
        return self._send("READY=1", _status(words))

    def reloading(self) -> bool:
        """A new config is read. Before `ready` this is part of starting and nothing is said."""
        if not self._is_ready:
            return False
        return self._send("RELOADING=1", f"MONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")

    def reloaded(self, words: str) -> bool:
        """The end of `reloading`, whether the config was taken or refused."""
        if not self._is_ready:
            return self.status(words)
        return self._send("READY=1", _status(words))

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

    def _send(self, *lines: str) -> bool:
        """Whether the manager's socket took it."""
        if self._address is None:
            return False
        data = "\n".join(line for line in lines if line).encode(errors="replace")
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
                sock.settimeout(_SEND_TIMEOUT_SECONDS)
                sock.sendto(data, self._address)
        except OSError:
            return False
        return True


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
