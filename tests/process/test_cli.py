"""The verbs that talk with a running daemon, in processes of their own: chat, wait, logs, requests, cancel."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from openai import APIError
from PIL import Image

from tests.fakes.worker import Behaviour
from tests.process.daemon import MODEL, PATIENCE_SECONDS, DaemonProcess, start_fake
from tests.process.test_control import HI, ask, command, connect, gemmad

SLOW = Behaviour(step_seconds=0.02)
SPOKEN = "\N{REPLACEMENT CHARACTER}"
"""What the fake worker says looks like this."""


class Terminal:
    """A chat at a terminal: what is typed, and what is shown."""

    def __init__(self, process: subprocess.Popen[str], screen: int) -> None:
        self.process = process
        self._screen = screen
        self.shown = ""

    def type(self, line: str) -> None:
        os.write(self._screen, f"{line}\n".encode())

    def read_until(self, words: str, *, after: int = 0) -> int:
        """Read what is shown until these words are among it, past this many characters; where they end."""
        while words not in self.shown[after:]:
            self.shown += os.read(self._screen, 4096).decode(errors="replace")
        return self.shown.index(words, after) + len(words)


@contextmanager
def chatting(daemon: DaemonProcess, *arguments: str) -> Iterator[Terminal]:
    line, options = command(daemon, "chat", *arguments)
    options["env"] |= {"TERM": "xterm"}
    options["env"].pop("NO_COLOR", None)
    ours, theirs = os.openpty()
    try:
        with subprocess.Popen(line, **options, stdin=theirs, stdout=theirs, stderr=theirs) as process:
            os.close(theirs)
            try:
                yield Terminal(process, ours)
            finally:
                process.kill()
    finally:
        os.close(ours)


def requests(daemon: DaemonProcess) -> list[dict[str, Any]]:
    """As `GET /requests` has them."""
    status, body = ask(connect(daemon), "GET", "/requests")
    assert status == http.client.OK
    found: list[dict[str, Any]] = json.loads(body)["requests"]
    return found


# --- chat -------------------------------------------------------------------------------------------------------------


def test_one_question(demo_daemon: DaemonProcess, tmp_path: Path) -> None:
    """The bundled model answers, about a picture too; piped in is as good as an argument, and there is no colour."""
    Image.new("RGB", (64, 64), "red").save(tmp_path / "red.png")
    said = gemmad(demo_daemon, "chat", "--temperature", "0", "--image", str(tmp_path / "red.png"), "What is this?")
    assert said.returncode == 0, said.stderr
    assert len(said.stdout) > 5
    line, options = command(demo_daemon, "chat", "--temperature", "0")
    piped = subprocess.run(line, **options, input="Hi", capture_output=True, check=True, timeout=PATIENCE_SECONDS)
    assert len(piped.stdout) > 5
    assert "\x1b" not in said.stdout + piped.stdout


def test_a_picture_that_is_none(demo_daemon: DaemonProcess, tmp_path: Path) -> None:
    """The daemon says what is wrong with it, and it is the caller's fault."""
    (tmp_path / "a.png").write_text("not a picture")
    said = gemmad(demo_daemon, "chat", "--image", str(tmp_path / "a.png"), "What is this?")
    assert said.returncode == 2
    assert said.stderr.startswith("gemmad: ")


def test_ctrl_c_stops_an_answer(tmp_path: Path) -> None:
    """Ctrl-C ends the answer, for the daemon too, and the conversation goes on with what was said."""
    with start_fake(tmp_path, SLOW) as daemon:
        daemon.wait_ready()
        with chatting(daemon, "--max-tokens", "3000") as chat:
            begin = chat.read_until(">>> ")
            chat.type("Tell me a long story.")
            begin = chat.read_until(SPOKEN, after=begin)
            chat.process.send_signal(signal.SIGINT)
            begin = chat.read_until("stopped", after=begin)
            daemon.wait_until(lambda: requests(daemon) == [])
            begin = chat.read_until(">>> ", after=begin)
            chat.process.send_signal(signal.SIGINT)
            begin = chat.read_until("/quit or Ctrl-D leaves", after=begin)
            chat.type("Go on.")
            begin = chat.read_until(SPOKEN, after=begin)
            (second,) = requests(daemon)
            assert second["prompt_tokens"] > 30  # the story so far is in it
            chat.process.send_signal(signal.SIGINT)
            chat.read_until("stopped", after=begin)
            chat.type("/quit")
            assert chat.process.wait(PATIENCE_SECONDS) == 0
        assert "\x1b[2m" in chat.shown
        assert "Traceback" not in chat.shown


def test_ctrl_c_ends_one_question(tmp_path: Path) -> None:
    """A single question that is interrupted is exit status 130, and nothing of it runs on."""
    with start_fake(tmp_path, SLOW) as daemon:
        daemon.wait_ready()
        line, options = command(daemon, "chat", "--max-tokens", "3000", "Hi")
        with subprocess.Popen(line, **options, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as chat:
            daemon.wait_until(lambda: any(request["said_tokens"] for request in requests(daemon)))
            chat.send_signal(signal.SIGINT)
            assert chat.wait(PATIENCE_SECONDS) == 130
        daemon.wait_until(lambda: requests(daemon) == [])


# --- wait and logs ----------------------------------------------------------------------------------------------------


def test_waiting_from_before_the_start(tmp_path: Path) -> None:
    """Who begins to wait before there is a daemon is told once it serves."""
    with start_fake(tmp_path, Behaviour(load_seconds=1.0)) as daemon:
        line, options = command(daemon, "wait", "--ready", "--timeout", str(PATIENCE_SECONDS))
        options["env"]["GEMMAD_SERVER__PORT"] = "9"  # nobody is there, before it says where it is
        said = subprocess.run(line, **options, capture_output=True, check=False, timeout=2 * PATIENCE_SECONDS)
        assert (said.returncode, said.stdout) == (0, "ready\n")
        assert daemon.get("/health")[0] == 200


def test_a_log_in_a_file(fake_daemon: DaemonProcess) -> None:
    """A daemon whose standard error is a file has its log there, and the last lines are shown."""
    said = gemmad(fake_daemon, "logs", "-n", "2")
    assert said.returncode == 0, said.stderr
    assert said.stdout.splitlines() == fake_daemon.log.splitlines()[-2:]
    line, options = command(fake_daemon, "logs", "-f", "-n", "1")
    with subprocess.Popen(line, **options, stdout=subprocess.PIPE) as follower:
        assert follower.stdout is not None
        assert json.loads(follower.stdout.readline())["level"] == "info"
        fake_daemon.signal(signal.SIGTERM)
        assert json.loads(follower.stdout.readline())["level"] == "info"
        follower.send_signal(signal.SIGINT)
        assert follower.wait(PATIENCE_SECONDS) != 0


# --- requests and cancel ----------------------------------------------------------------------------------------------


def test_a_request_is_cancelled(tmp_path: Path) -> None:
    """A stream that an operator cancels ends with an error that says so; another one goes on to its end."""
    with start_fake(tmp_path, SLOW) as daemon:
        daemon.wait_ready()
        errors: list[APIError] = []

        def read() -> None:
            with daemon.client() as client, pytest.raises(APIError) as caught:
                for _ in client.chat.completions.create(
                    model=MODEL,
                    messages=HI,
                    max_tokens=3000,
                    stream=True,
                    extra_body={"ignore_eos": True},
                    extra_headers={"x-request-id": "mine/1"},
                ):
                    pass
            errors.append(caught.value)

        reader = threading.Thread(target=read)
        reader.start()
        daemon.wait_until(lambda: any(request["said_tokens"] for request in requests(daemon)))
        (seen,) = requests(daemon)
        assert (seen["request_id"], seen["worker"], seen["max_tokens"]) == ("mine/1", "cpu0", 3000)
        said = gemmad(daemon, "requests")
        assert (said.returncode, said.stdout.splitlines()[1].split()[:2]) == (0, ["mine/1", "cpu0"])
        said = gemmad(daemon, "cancel", "mine/1")
        assert said.returncode == 0, said.stderr
        assert said.stdout.startswith("cancelled mine/1 after ")
        reader.join(PATIENCE_SECONDS)
        assert [error.code for error in errors] == ["cancelled"]
        assert requests(daemon) == []
        assert gemmad(daemon, "cancel", "mine/1").returncode == 2
        (asked,) = daemon.events("operator asks")
        assert (asked["verb"], asked["request_id"]) == ("cancel", "mine/1")


def test_nobody_to_ask(tmp_path: Path, fake_daemon: DaemonProcess) -> None:
    """Once the daemon has ended there is nobody to chat with, and the exit status says so."""
    del tmp_path
    assert fake_daemon.stop() == 0
    for arguments in (["chat", "Hi", "--url", "http://127.0.0.1:9"], ["requests"], ["cancel", "x"]):
        assert gemmad(fake_daemon, *arguments).returncode == 3
