from __future__ import annotations

import socket
import threading
import time
from pathlib import Path

import pytest

from tests.unit.cli.conftest import Command
from tests.unit.cli.test_health import answering, body


def test_ready_already(gemmad: Command) -> None:
    """A daemon that is ready is not waited for."""
    with answering(200, body("ready")) as url:
        said = gemmad("wait", "--ready", "--url", url)
    assert (said.exit_code, said.stdout) == (0, "ready\n")


@pytest.mark.parametrize("word", ["loading", "draining"])
def test_not_in_time(gemmad: Command, word: str) -> None:
    """One that is there and not ready in time is exit status 1, with what it does instead."""
    with answering(503, body(word)) as url:
        said = gemmad("wait", "--timeout", "0.3", "--url", url)
    assert (said.exit_code, said.stderr) == (1, f"gemmad: not ready after 0.3 seconds: {word}\n")


def test_nobody_in_time(gemmad: Command) -> None:
    """No answer in time is exit status 2; a time of zero is one look."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
        began = time.monotonic()
        for seconds in ("0", "0.3"):
            assert gemmad("wait", "--timeout", seconds, "--url", url).exit_code == 2
    assert time.monotonic() - began < 5


def test_one_that_comes_later(gemmad: Command, config_dir: Path) -> None:
    """It is waited for from before it is started, and found where it says that it listens."""
    (config_dir / "run").mkdir()
    done = threading.Event()

    def start_later() -> None:
        time.sleep(0.3)  # a command is in the middle of its wait by then, or about to begin: both are right
        with answering(200, body("ready")) as url:
            (config_dir / "run" / "address").write_text(f"{url}\n")
            done.wait(10)

    (config_dir / "gemmad.toml").write_text("[server]\nport = 9\n")
    thread = threading.Thread(target=start_later)
    thread.start()
    try:
        assert gemmad("wait", "--timeout", "10").exit_code == 0
    finally:
        done.set()
        thread.join()
