"""How `gemmad doctor` asks the daemon before it looks at anything else."""

from __future__ import annotations

import os
import socket
from pathlib import Path

from gemmad.cli.doctor import ask_daemon
from tests.unit.cli.operated import overview, played, worker


def test_a_daemon_that_answers(config_dir: Path) -> None:
    """Its own word, its limits and whose it is, and whether it would heed us."""
    with played(config_dir / "run") as control:
        control.overviews = [overview(worker(), pid=os.getpid())]
        seen = ask_daemon()
    assert seen.socket == str(config_dir / "run" / "control.sock")
    assert seen.overview is not None
    assert (seen.uid, seen.is_warden) == (os.geteuid(), True)
    assert seen.open_files is not None
    assert (seen.silent, seen.closed, seen.left) == (None, False, False)


def test_a_daemon_that_is_not_there(config_dir: Path) -> None:
    """None at all, and one that was killed and has left its socket."""
    assert not ask_daemon().left
    (config_dir / "run").mkdir()
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(config_dir / "run" / "control.sock"))
    seen = ask_daemon()
    assert (seen.left, seen.overview, seen.silent) == (True, None, None)


def test_a_daemon_that_hurts(config_dir: Path) -> None:
    """One that answers with an error is told in its words."""
    with played(config_dir / "run") as control:
        control.refuse(500, "it hurts")
        seen = ask_daemon()
    assert (seen.silent, seen.overview) == ("it hurts", None)
