"""Asking in a child process, with a deadline: what hangs in a driver or on a dead disk hangs there and not here."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Sequence

from msgspec import Struct

KILL_SECONDS = 0.5
"""A process that sits in the kernel does not even die; nobody waits for it."""
_FEW_WORDS = 600


class Reply(Struct, frozen=True):
    """What a child said, or why it said nothing."""

    output: bytes = b""
    status: int = 0
    errors: str = ""
    """The end of its standard error."""
    problem: str | None = None
    """It could not be run, or did not end in time."""


def ask(command: Sequence[str], *, seconds: float) -> Reply:
    """Run it and wait no longer than that. It raises nothing."""
    try:
        child = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
            cwd="/",  # Python's -m finds modules where it is started, which may be anybody's folder, or gone
        )
    except OSError as error:
        return Reply(problem=f"{command[0]}: {error.strerror}")
    try:
        output, errors = child.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        _kill(child)
        return Reply(problem=f"no answer within {seconds:g} seconds")
    return Reply(output, child.returncode, errors.decode(errors="replace").strip()[-_FEW_WORDS:])


def _kill(child: subprocess.Popen[bytes]) -> None:
    """It and what it has started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    with contextlib.suppress(subprocess.TimeoutExpired):
        child.communicate(timeout=KILL_SECONDS)
