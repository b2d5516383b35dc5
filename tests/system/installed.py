"""gemmad in a box, installed where a service of the system can see it: this interpreter, its packages and this source,
on paths that no sandbox hides."""

from __future__ import annotations

import compileall
import http.client
import json
import shutil
import sys
import sysconfig
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.process.daemon import MODEL
from tests.system.box import Box

ROOT = Path(__file__).parents[2]
PORT = 4363
UNIT = "gemmad.service"
COMMAND = "/srv/venv/bin/gemmad"
CONFIG = "/etc/gemmad/gemmad.toml"
READY_SECONDS = 90.0
WATCHDOG_SECONDS = 8
SETTINGS = "[shutdown]\ngrace = 90\n"
_PYTHON = "/srv/python"
_DROP_IN = f"""\
[Unit]
StartLimitIntervalSec=0

[Service]
RestartSec=1s
WatchdogSec={WATCHDOG_SECONDS}s
Environment=GEMMAD_ENGINE__DEVICE=cpu LD_LIBRARY_PATH={_PYTHON}/lib
"""


def binds(folder: Path) -> dict[Path, str]:
    """What a box has to see; `folder` takes a copy of the source, with its bytecode, so that no start compiles."""
    source = folder / "source"
    shutil.copytree(ROOT / "gemmad", source / "gemmad", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "systemd", source / "gemmad" / "systemd")
    compileall.compile_dir(source, ddir="/srv/source", quiet=2)
    return {
        Path(sys.base_prefix): _PYTHON,
        Path(sysconfig.get_path("purelib")): "/srv/packages",
        source: "/srv/source",
    }


ENV = {"LD_LIBRARY_PATH": f"{_PYTHON}/lib"}


class Installed:
    """What is done with gemmad in a box, and seen of it."""

    def __init__(self, box: Box) -> None:
        self.box = box

    def prepare(self) -> None:
        """Its command and its settings; nothing is installed as a service yet."""
        version = f"python{sys.version_info.major}.{sys.version_info.minor}"
        python = f"{_PYTHON}/bin/{version}"
        self.box.write("/srv/venv/pyvenv.cfg", f"home = {_PYTHON}/bin\n")
        self.box.write(f"/srv/venv/lib/{version}/site-packages/gemmad.pth", "/srv/source\n/srv/packages\n")
        self.box.write(COMMAND, "#!/srv/venv/bin/python\nfrom gemmad.cli.main import main\n\nmain()\n", mode=0o755)
        self.box.file("/srv/venv/bin/python").symlink_to(python)
        self.box.write(f"/etc/systemd/system/{UNIT}.d/test.conf", _DROP_IN)
        self.box.write(CONFIG, SETTINGS)

    def install(self, *options: str) -> str:
        """`gemmad service install --demo`; what it says."""
        return self.box.run(COMMAND, "service", "install", "--demo", *options, seconds=READY_SECONDS).stdout

    def make_ready(self) -> None:
        """Have it run and serve, whatever was before."""
        if self.box.show(UNIT, "ActiveState") != "active":
            self.box.systemctl("restart", UNIT, seconds=READY_SECONDS)
        self.wait_ready()

    def wait_ready(self) -> None:
        """Return once requests are answered."""
        self.box.wait_until(self.is_ready, seconds=READY_SECONDS, words="ready")

    def is_ready(self) -> bool:
        """Whether health says so."""
        return self.get("/health")[0] == http.client.OK

    def get(self, path: str) -> tuple[int, Any]:
        """Status and decoded body; 0 and None if nobody answers."""
        connection = self.box.http(PORT)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status, json.loads(response.read())
        except (OSError, http.client.HTTPException):
            return 0, None
        finally:
            connection.close()

    def ask(self, content: str = "Count to 3.", **fields: Any) -> http.client.HTTPResponse:
        """One chat completion; the answer's head has been read. Whoever gets it reads it to the end."""
        connection = self.box.http(PORT, seconds=READY_SECONDS)
        messages = [{"role": "user", "content": content}]
        body = json.dumps({"model": MODEL, "messages": messages, "temperature": 0, "max_tokens": 12, **fields})
        headers = {"Content-Type": "application/json", "Connection": "close"}  # so that it ends with its answer
        try:
            connection.request("POST", "/v1/chat/completions", body, headers)
            return connection.getresponse()
        except BaseException:
            connection.close()
            raise

    def answer(self, content: str = "Count to 3.") -> str:
        """What the model says."""
        with self.ask(content) as response:
            assert response.status == http.client.OK, response.read()
            text: str = json.loads(response.read())["choices"][0]["message"]["content"]
            return text

    def tokens_in(self, seconds: float) -> int:
        """About how many tokens a stream has in so long, on this machine as it is now."""
        began = time.monotonic()
        with self.ask("Tell me a story.", max_tokens=20, ignore_eos=True) as response:
            response.read()
        return min(4000, round(20 * seconds / (time.monotonic() - began)) + 5)

    def main_pid(self) -> int:
        """The daemon, by its number on the host."""
        return self.box.outside(int(self.box.show(UNIT, "MainPID")))

    def family(self) -> dict[int, str]:
        """The daemon's processes, by their numbers on the host."""
        return {pid: line for pid, line in self.box.processes().items() if "gemmad" in line and "nsenter" not in line}

    def workers(self) -> set[int]:
        """Workers' processes by their numbers on the host, as the daemon itself tells."""
        told = json.loads(self.box.run(COMMAND, "status", "--json", check=False).stdout)
        return {self.box.outside(worker["pid"]) for worker in told["workers"] if worker["pid"]}


class Stream:
    """A chat completion that is streamed, read in a thread."""

    def __init__(self, gemmad: Installed, *, tokens: int, content: str = "Tell me a story.") -> None:
        self.text = ""
        self.finish: str | None = None
        self.tokens = 0
        self.error: Exception | None = None
        self._response = gemmad.ask(content, max_tokens=tokens, stream=True, ignore_eos=True)
        assert self._response.status == http.client.OK, self._response.read()
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def join(self, seconds: float = 60.0) -> None:
        """Wait for its end."""
        self._thread.join(seconds)
        assert not self._thread.is_alive()
        self._response.close()

    def _read(self) -> None:
        try:
            for line in self._response:
                if line.startswith(b"data: {"):
                    told = json.loads(line[6:])
                    if "choices" not in told:
                        self.error = RuntimeError(line.decode())
                        return
                    (choice,) = told["choices"]
                    self.text += choice["delta"].get("content") or ""
                    self.finish = choice["finish_reason"] or self.finish
                    self.tokens += 1
        except (OSError, http.client.HTTPException) as error:
            self.error = error


class Load:
    """Askers, each with a connection of its own for every request, until they are told to end."""

    def __init__(self, gemmad: Installed, *, askers: int = 4) -> None:
        self.statuses: dict[int, int] = {}
        """How many answers had which status."""
        self.failures: list[str] = []
        """Requests without an answer."""
        self._gemmad = gemmad
        self._over = threading.Event()
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._run) for _ in range(askers)]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(READY_SECONDS)

    def _run(self) -> None:
        while not self._over.is_set():
            began = time.monotonic()
            try:
                with self._gemmad.ask(max_tokens=2) as response:
                    response.read()
            except (OSError, http.client.HTTPException) as error:
                with self._lock:
                    self.failures.append(f"{error!r} after {time.monotonic() - began:.3f} s")
            else:
                with self._lock:
                    self.statuses[response.status] = self.statuses.get(response.status, 0) + 1
            self._over.wait(0.01)


def gone(pids: set[int]) -> Callable[[], bool]:
    """Whether none of these is there any more."""
    return lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids)
