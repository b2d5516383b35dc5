"""A daemon in a process of its own, and what can be seen of it from outside."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
from openai import AsyncOpenAI, OpenAI

from tests.fakes.worker import Behaviour

ROOT = Path(__file__).parents[2]
MODEL = "gemma-3-demo"
PATIENCE_SECONDS = 60.0


class DaemonProcess:
    """Use it in `with`: it is stopped, or killed, at the end."""

    def __init__(self, command: Sequence[str], folder: Path, *, env: dict[str, str] | None = None) -> None:
        self.folder = folder
        self.log_file = folder / "log"
        self.address_file = folder / "runtime" / "address"
        folders = {f"GEMMAD_{name}_DIR": str(folder / name.lower()) for name in ("CONFIG", "STATE", "CACHE", "RUNTIME")}
        clean = {name: value for name, value in os.environ.items() if not name.startswith("GEMMAD_")}
        with self.log_file.open("w") as log:
            self.process = subprocess.Popen(
                command, cwd=ROOT, env={**clean, **folders, **(env or {})}, stdout=log, stderr=log
            )
        self.began = time.monotonic()

    @property
    def base_url(self) -> str:
        """For the SDK."""
        return f"{self.url}/v1"

    @property
    def url(self) -> str:
        """As the daemon itself tells it."""
        return self.address_file.read_text().strip()

    @property
    def port(self) -> int:
        """The TCP port."""
        return int(self.url.rpartition(":")[2])

    def wait_listening(self) -> None:
        """Return once it listens; fail if it ends before."""
        self.wait_until(lambda: self.address_file.exists() and bool(self.url))

    def wait_ready(self, *, seconds: float = PATIENCE_SECONDS) -> None:
        """Return once it serves; fail if it ends before."""
        self.wait_listening()
        self.wait_until(lambda: self.get("/health")[0] == http.client.OK, seconds=seconds)

    def wait_until(self, condition: Any, *, seconds: float = PATIENCE_SECONDS) -> None:
        """Poll, with a deadline, while the daemon lives."""
        give_up = time.monotonic() + seconds
        while not condition():
            assert self.process.poll() is None, f"it ended with {self.process.returncode}:\n{self.log}"
            assert time.monotonic() < give_up, f"it did not come to that:\n{self.log}"
            time.sleep(0.01)

    def get(self, path: str) -> tuple[int, Any]:
        """Status and decoded body, 0 and None if nobody answers."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_SECONDS)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status, json.loads(response.read())
        except OSError:
            return 0, None
        finally:
            connection.close()

    def metric(self, name: str) -> float:
        """One sample without labels."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_SECONDS)
        try:
            connection.request("GET", "/metrics")
            lines = connection.getresponse().read().decode().splitlines()
        finally:
            connection.close()
        return next(float(line.split()[1]) for line in lines if line.startswith(f"{name} "))

    def client(self, **options: Any) -> OpenAI:
        """The SDK; it does not retry unless told to."""
        return OpenAI(base_url=self.base_url, api_key="none", **{"max_retries": 0, **options})

    def async_client(self, **options: Any) -> AsyncOpenAI:
        """The same, for asyncio."""
        return AsyncOpenAI(base_url=self.base_url, api_key="none", **{"max_retries": 0, **options})

    def signal(self, number: int = signal.SIGTERM) -> None:
        """Send it a signal."""
        self.process.send_signal(number)

    def wait(self, seconds: float = PATIENCE_SECONDS) -> int:
        """Its exit code, once it has ended."""
        return self.process.wait(seconds)

    def stop(self) -> int:
        """Ask it to stop; its exit code."""
        self.signal()
        return self.wait()

    @property
    def log(self) -> str:
        """All that it wrote."""
        return self.log_file.read_text()

    def events(self, event: str) -> list[dict[str, Any]]:
        """Log lines with this message."""
        lines = [json.loads(line) for line in self.log.splitlines() if line.startswith("{")]
        return [line for line in lines if line.get("event") == event]

    def children(self) -> set[int]:
        """Processes that it has started and that live."""
        path = f"/proc/{self.process.pid}/task/{self.process.pid}/children"
        return {int(pid) for pid in Path(path).read_text().split()}

    def running(self, module: str) -> set[int]:
        """Those of them that run this module."""
        found = {}
        for pid in self.children():
            with contextlib.suppress(OSError):  # it is gone meanwhile
                found[pid] = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
        return {pid for pid, words in found.items() if words[1:3] == ["-m", module]}

    def descriptors(self) -> list[str]:
        """What its file descriptors lead to; those of idle connections come and go by the client's will."""
        folder = f"/proc/{self.process.pid}/fd"
        found = []
        for name in os.listdir(folder):
            try:
                found.append(os.readlink(f"{folder}/{name}"))
            except OSError:
                continue
        return found

    def __enter__(self) -> DaemonProcess:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.signal()
            try:
                self.wait(15)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.wait()
                raise AssertionError(f"it had to be killed:\n{self.log}") from None


def start_demo(folder: Path, *options: str, env: dict[str, str] | None = None) -> DaemonProcess:
    """`gemmad serve --demo` as a user starts it, on a free port."""
    command = [sys.executable, "-m", "gemmad", "serve", "--demo", "--port", "0", *options]
    return DaemonProcess(command, folder, env={"GEMMAD_ENGINE__DEVICE": "cpu", **(env or {})})


def start_fake(
    folder: Path, behaviour: Behaviour | None = None, *, env: dict[str, str] | None = None, **settings: Any
) -> DaemonProcess:
    """The daemon on a free port with a worker that behaves as told; `server__port=0` sets server.port."""
    command = [
        sys.executable,
        "tests/fakes/daemon.py",
        "--behaviour",
        msgspec.json.encode(behaviour or Behaviour()).decode(),
    ]
    for name, value in {"server__port": 0, **settings}.items():
        command += ["--set", f"{name.replace('__', '.')}={value}"]
    return DaemonProcess(command, folder, env=env)


def is_alive(pid: int) -> bool:
    """Whether a process is there and no zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat[stat.rindex(")") + 2] != "Z"
