"""Operating a running daemon: what `gemmad status` shows, and what drain, resume and recycle do to those who stream."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from openai import APIStatusError

from gemmad.api.dashboard.snapshot import Snapshot
from gemmad.api.overview import Overview, WorkerOverview
from gemmad.cli.health import UnixConnection
from tests.fakes.somebody import needs_root, somebody_else
from tests.fakes.worker import Behaviour, Faults
from tests.process.daemon import MODEL, PATIENCE_SECONDS, ROOT, DaemonProcess, start_fake

HI: Any = [{"role": "user", "content": "Hi"}]
SLOW = Behaviour(step_seconds=0.02)


def command(daemon: DaemonProcess, *arguments: str) -> tuple[list[str], dict[str, Any]]:
    """`gemmad ARGUMENTS…` for whoever has the daemon's runtime folder."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("GEMMAD_")}
    env["GEMMAD_RUNTIME_DIR"] = str(daemon.folder / "runtime")
    return [sys.executable, "-m", "gemmad", *arguments], {"cwd": ROOT, "env": env, "text": True}


def gemmad(daemon: DaemonProcess, *arguments: str) -> subprocess.CompletedProcess[str]:
    line, options = command(daemon, *arguments)
    return subprocess.run(line, **options, capture_output=True, check=False, timeout=PATIENCE_SECONDS)


def connect(daemon: DaemonProcess) -> UnixConnection:
    return UnixConnection(daemon.folder / "runtime" / "control.sock", PATIENCE_SECONDS)


def ask(connection: UnixConnection, method: str, path: str) -> tuple[int, bytes]:
    try:
        connection.request(method, path)
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def see(daemon: DaemonProcess) -> Overview:
    status, body = ask(connect(daemon), "GET", "/status")
    assert status == http.client.OK
    return msgspec.json.decode(body, type=Overview)


def workers(daemon: DaemonProcess) -> dict[str, WorkerOverview]:
    return {worker.name: worker for worker in see(daemon).workers}


def states(daemon: DaemonProcess) -> list[str]:
    return [worker.state for worker in see(daemon).workers]


class Streams:
    """Conversations that run beside each other, read to their ends by threads."""

    def __init__(self, daemon: DaemonProcess, seeds: Sequence[int], *, tokens: int) -> None:
        self.texts: dict[int, str] = {}
        self._daemon = daemon
        self._tokens = tokens
        self._begun = threading.Semaphore(0)
        self._threads = [threading.Thread(target=self._read, args=(seed,)) for seed in seeds]
        for thread in self._threads:
            thread.start()
        for _ in seeds:
            assert self._begun.acquire(timeout=PATIENCE_SECONDS)

    def join(self) -> dict[int, str]:
        """The texts of those that ended as they should, by seed."""
        for thread in self._threads:
            thread.join(PATIENCE_SECONDS)
            assert not thread.is_alive()
        return self.texts

    def _read(self, seed: int) -> None:
        with self._daemon.client() as client:
            stream = client.chat.completions.create(
                model=MODEL,
                messages=HI,
                seed=seed,
                temperature=1,
                max_tokens=self._tokens,
                stream=True,
                extra_body={"ignore_eos": True},
            )
            self._begun.release()  # it is admitted
            text, finish = "", None
            for chunk in stream:
                text += chunk.choices[0].delta.content or ""
                finish = chunk.choices[0].finish_reason
            if finish == "length":
                self.texts[seed] = text


# --- status -----------------------------------------------------------------------------------------------------------


def test_from_loading_to_ready(tmp_path: Path) -> None:
    """While a worker loads the status says how far and leaves with 1; once it is ready, with 0."""
    with start_fake(tmp_path, Behaviour(load_seconds=6.0)) as daemon:
        daemon.wait_listening()
        daemon.wait_until(lambda: any(worker.progress for worker in see(daemon).workers))
        said = gemmad(daemon, "status")
        assert said.returncode == 1, said.stderr
        assert "is loading" in said.stdout
        assert "starting: weights" in said.stdout
        daemon.wait_ready()
        said = gemmad(daemon, "status")
        assert said.returncode == 0, said.stderr
        assert "is ready" in said.stdout
        assert "\x1b" not in said.stdout


def test_as_json(fake_daemon: DaemonProcess) -> None:
    """--json has every field of the documented answer, with what the daemon has done."""
    fake_daemon.wait_until(lambda: see(fake_daemon).workers[0].load is not None)
    with fake_daemon.client() as client:
        client.chat.completions.create(model=MODEL, messages=HI, max_tokens=5, extra_body={"ignore_eos": True})
    said = gemmad(fake_daemon, "status", "--json")
    assert said.returncode == 0
    answer = json.loads(said.stdout)
    assert list(answer) == list(Overview.__struct_fields__)
    assert list(answer["workers"][0]) == list(WorkerOverview.__struct_fields__)
    assert (answer["pid"], answer["url"], answer["models"]) == (fake_daemon.process.pid, fake_daemon.url, [MODEL])
    assert (answer["requests"]["finished"], answer["tokens"]["generated"]) == (1, 5)
    assert answer["workers"][0]["requests"] == 1


def test_watching(fake_daemon: DaemonProcess) -> None:
    """--watch --json is a line a second; it outlives the daemon and leaves with the last status."""
    line, options = command(fake_daemon, "status", "--watch", "--json")
    with subprocess.Popen(line, **options, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as watch:
        assert watch.stdout is not None
        assert watch.stderr is not None
        seen = [json.loads(watch.stdout.readline()) for _ in range(2)]
        assert seen[0]["uptime_seconds"] < seen[1]["uptime_seconds"]
        assert fake_daemon.stop() == 0
        assert "no daemon is running" in watch.stderr.readline()
        watch.send_signal(signal.SIGINT)
        assert watch.wait(PATIENCE_SECONDS) == 3


def test_watching_on_a_terminal(fake_daemon: DaemonProcess) -> None:
    """On a terminal --watch draws the table in colour, again and again in the same place, until Ctrl-C."""
    line, options = command(fake_daemon, "status", "--watch")
    options["env"] |= {"TERM": "xterm", "COLUMNS": "100"}
    options["env"].pop("NO_COLOR", None)
    ours, theirs = os.openpty()
    with (
        open(ours, "rb", buffering=0) as screen,
        subprocess.Popen(line, **options, stdin=theirs, stdout=theirs, stderr=theirs) as watch,
    ):
        os.close(theirs)
        drawn = b""
        while drawn.count(b"WORKER") < 2:
            drawn += screen.read(4096)
        watch.send_signal(signal.SIGINT)
        assert watch.wait(PATIENCE_SECONDS) == 0
    assert b"\x1b[32mready" in drawn
    assert b"cpu0" in drawn


def test_after_a_crash(tmp_path: Path) -> None:
    """A crash is told with its reason and the next try, and `recycle` begins the next life at once."""
    faults = Faults(crash_after_tokens=3, crash_with=9)
    behaviour = Behaviour(faults=faults, faulty_lives=1)
    with start_fake(tmp_path, behaviour, workers__restart_pause=600, workers__restart_pause_limit=600) as daemon:
        daemon.wait_ready()
        streams = Streams(daemon, [1], tokens=20)
        daemon.wait_until(lambda: states(daemon) == ["backoff"])
        (worker,) = see(daemon).workers
        assert worker.faults == 1.0
        assert "9" in (worker.last_error or "")
        assert 200 < (worker.retry_in_seconds or 0) <= 600
        said = gemmad(daemon, "status")
        assert said.returncode == 1
        assert "is recovering" in said.stdout
        assert "cpu0: last error: " in said.stdout
        said = gemmad(daemon, "recycle", "cpu0", "--wait")
        assert (said.returncode, said.stdout) == (0, "cpu0 is ready, life 2\n")
        assert len(streams.join()) == 1
        assert see(daemon).requests.failovers == 1


def test_while_it_drains(tmp_path: Path) -> None:
    """Operators can look until the last request is done; then nothing is left in the runtime folder."""
    with start_fake(tmp_path, SLOW) as daemon:
        daemon.wait_ready()
        streams = Streams(daemon, [1], tokens=100)
        daemon.signal()
        daemon.wait_until(lambda: see(daemon).state == "draining")
        said = gemmad(daemon, "status")
        assert said.returncode == 1
        assert "is draining" in said.stdout
        assert len(streams.join()) == 1
        assert daemon.wait() == 0
    assert os.listdir(tmp_path / "runtime") == []


# --- drain, resume, recycle -------------------------------------------------------------------------------------------


def test_the_only_worker_is_drained(tmp_path: Path) -> None:
    """What runs is finished, what comes is told to come back with 503, and after `resume` it is served."""
    with start_fake(tmp_path, SLOW) as daemon:
        daemon.wait_ready()
        streams = Streams(daemon, [1, 2], tokens=100)
        assert gemmad(daemon, "drain", "cpu0").returncode == 0
        assert workers(daemon)["cpu0"].drained
        with daemon.client() as client, pytest.raises(APIStatusError) as caught:
            client.chat.completions.create(model=MODEL, messages=HI)
        assert caught.value.status_code == http.client.SERVICE_UNAVAILABLE
        said = gemmad(daemon, "drain", "cpu0", "--wait")
        assert (said.returncode, said.stdout) == (0, "cpu0 is drained\n")
        assert len(streams.join()) == 2
        assert (workers(daemon)["cpu0"].state, workers(daemon)["cpu0"].pid) == ("stopped", None)
        assert gemmad(daemon, "status").returncode == 1
        assert gemmad(daemon, "recycle", "cpu0").returncode == 1
        said = gemmad(daemon, "resume", "cpu0", "--wait")
        assert (said.returncode, said.stdout) == (0, "cpu0 is ready\n")
        assert len(Streams(daemon, [3], tokens=5).join()) == 1


def test_one_of_two_is_drained(tmp_path: Path) -> None:
    """The other one takes what comes, and the daemon is not degraded: it was asked to be so."""
    with start_fake(tmp_path, workers__count=2) as daemon:
        daemon.wait_until(lambda: daemon.address_file.exists() and states(daemon) == ["ready", "ready"])
        assert gemmad(daemon, "drain", "cpu1", "--wait").returncode == 0
        assert len(Streams(daemon, range(6), tokens=10).join()) == 6
        said = gemmad(daemon, "status")
        assert said.returncode == 0
        assert "drained" in said.stdout
        assert workers(daemon)["cpu0"].requests == 6


def test_all_are_recycled_under_streams(tmp_path: Path) -> None:
    """Every worker is replaced while eight streams run, and each says word for word what it says otherwise."""
    seeds = range(8)
    with start_fake(tmp_path, SLOW, workers__count=2) as daemon:
        daemon.wait_until(lambda: daemon.address_file.exists() and states(daemon) == ["ready", "ready"])
        calm = Streams(daemon, seeds, tokens=100).join()
        assert len(calm) == len(seeds)
        pids = {worker.pid for worker in see(daemon).workers}
        streams = Streams(daemon, seeds, tokens=100)
        said = gemmad(daemon, "recycle", "--all", "--wait")
        assert said.returncode == 0, said.stderr
        assert streams.join() == calm
        seen = see(daemon)
        assert not pids & {worker.pid for worker in seen.workers}
        assert (seen.state, seen.requests.failed, seen.requests.running) == ("ready", 0, 0)


def test_an_unknown_worker(fake_daemon: DaemonProcess) -> None:
    """A name that is none leads to those that are."""
    said = gemmad(fake_daemon, "drain", "gpu7")
    assert (said.returncode, said.stderr) == (2, "gemmad: There is no worker 'gpu7'; there are cpu0.\n")


# --- the socket -------------------------------------------------------------------------------------------------------


def test_no_daemon(fake_daemon: DaemonProcess) -> None:
    """Once it has ended there is nobody to ask."""
    assert fake_daemon.stop() == 0
    for arguments in (["status"], ["drain", "--all"]):
        said = gemmad(fake_daemon, *arguments)
        assert said.returncode == 3
        assert "no daemon is running" in said.stderr


def test_two_daemons_with_one_folder(tmp_path: Path) -> None:
    """The second one serves without a control socket, says why, and has it once the first one is gone."""
    with start_fake(tmp_path) as first:
        first.wait_ready()
        log = first.log_file.rename(tmp_path / "first log")
        with start_fake(tmp_path) as second:
            second.wait_until(lambda: second.events("ready"))
            (warning,) = second.events("no control socket")
            assert f"pid {first.process.pid}" in warning["reason"]
            assert see(second).pid == first.process.pid
            assert first.stop() == 0
            second.wait_until(lambda: (tmp_path / "runtime" / "control.sock").exists() and second.address_file.exists())
            second.wait_ready()
            assert see(second).pid == second.process.pid
            assert second.stop() == 0
        assert "Traceback" not in log.read_text()
    assert os.listdir(tmp_path / "runtime") == []


def test_a_killed_daemon(tmp_path: Path) -> None:
    """What it left in the folder stops nobody: its next life has the control socket at once."""
    with start_fake(tmp_path) as daemon:
        daemon.wait_ready()
        daemon.signal(signal.SIGKILL)
        daemon.wait()
    assert sorted(os.listdir(tmp_path / "runtime")) == ["address", "control.sock", "lock"]
    assert gemmad(daemon, "status").returncode == 3
    daemon.address_file.unlink()
    with start_fake(tmp_path) as daemon:
        daemon.wait_ready()
        assert see(daemon).pid == daemon.process.pid
        assert daemon.events("no control socket") == []
        assert daemon.stop() == 0
    assert os.listdir(tmp_path / "runtime") == []


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """One that other users can look into; pytest's own are closed."""
    folder = Path(tempfile.mkdtemp(dir="/tmp"))
    (folder / "runtime").mkdir()
    for path in (folder, folder / "runtime"):
        path.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@needs_root
def test_a_user_without_rights(open_folder: Path) -> None:
    """Everyone may look; who is no warden may change nothing and is told who may. What wardens ask for is logged."""
    with start_fake(open_folder) as daemon:
        daemon.wait_ready()

        def ask_as_nobody(method: str, path: str) -> tuple[int, bytes]:
            connection = connect(daemon)
            with somebody_else():
                connection.connect()
            return ask(connection, method, path)

        assert ask_as_nobody("GET", "/status")[0] == http.client.OK
        status, body = ask_as_nobody("POST", "/workers/all/drain")
        assert status == http.client.FORBIDDEN
        assert b"members of the group gemmad" in body
        status, body = ask_as_nobody("POST", "/dashboard/token")
        assert (status, b"gemmad-session" in body) == (http.client.FORBIDDEN, False)
        snapshot = msgspec.json.decode(ask_as_nobody("GET", "/snapshot")[1], type=Snapshot)
        assert (snapshot.overview.state, snapshot.log, snapshot.may_act) == ("ready", (), False)
        assert states(daemon) == ["ready"]
        assert daemon.events("operator asks") == []
        assert ask(connect(daemon), "POST", "/workers/all/resume")[0] == http.client.OK
        (asked,) = daemon.events("operator asks")
        assert (asked["verb"], asked["worker"], asked["uid"], asked["pid"]) == ("resume", "all", 0, os.getpid())
