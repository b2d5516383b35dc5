"""How the daemon begins, and how it does not."""

from __future__ import annotations

import http.client
import socket
import sys
from pathlib import Path

import pytest
from openai import APIStatusError

from gemmad.supervisor.gpus import find_gpus
from tests.fakes.worker import Behaviour, Faults
from tests.process.daemon import MODEL, DaemonProcess, start_fake

EXIT_TRY_AGAIN = 75
EXIT_CONFIG = 78


def serve(folder: Path, *options: str, env: dict[str, str] | None = None) -> DaemonProcess:
    command = [sys.executable, "-m", "gemmad", "serve", "--port", "0", "--device", "cpu", *options]
    return DaemonProcess(command, folder, env=env)


def test_it_answers_while_it_loads(tmp_path: Path) -> None:
    """HTTP answers long before a worker is ready: live 200, health 503 with progress, requests told to come back."""
    with start_fake(tmp_path, Behaviour(load_seconds=1.5)) as daemon:
        daemon.wait_listening()
        assert daemon.get("/health/live") == (200, {"status": "live"})
        daemon.wait_until(lambda: any("progress" in worker for worker in daemon.get("/health")[1]["workers"]))
        status, health = daemon.get("/health")
        assert (status, health["status"]) == (503, "loading")
        with daemon.client() as client, pytest.raises(APIStatusError) as caught:
            client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": "Hi"}])
        assert caught.value.status_code == 503
        assert 1 <= int(caught.value.response.headers["retry-after"]) <= 120
        daemon.wait_ready()
        assert daemon.get("/health")[1]["status"] == "ready"


def test_it_listens_within_a_second(tmp_path: Path) -> None:
    """From the start of the process to the first answer is less than a second of its own time."""
    with start_fake(tmp_path) as daemon:
        daemon.wait_listening()
        assert daemon.get("/health/live")[0] == 200
        stat = Path(f"/proc/{daemon.process.pid}/stat").read_text().rpartition(")")[2].split()
        # processor time, since a loaded machine may let it wait for its turn
        assert (int(stat[11]) + int(stat[12])) / 100 < 1.5


def test_a_port_in_use(tmp_path: Path) -> None:
    """A taken port is named, and the exit code says that it may work later."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with start_fake(tmp_path, server__port=port) as daemon:
            assert daemon.wait() == EXIT_TRY_AGAIN
            assert f"port {port} on 127.0.0.1 is in use" in daemon.log
            assert "Traceback" not in daemon.log
            assert not daemon.address_file.exists()


def test_a_worker_that_cannot_use_the_checkpoint(tmp_path: Path) -> None:
    """What only the worker finds out is in the log and in /health; the daemon stays to tell it."""
    faults = Faults(load_exit=3, last_words="model.safetensors: tensor q_proj has the wrong shape")
    with start_fake(tmp_path, Behaviour(faults=faults)) as daemon:
        daemon.wait_listening()
        daemon.wait_until(lambda: daemon.get("/health")[1]["status"] == "failed")
        assert "tensor q_proj has the wrong shape" in daemon.log
        assert daemon.get("/health/live")[0] == 200


@pytest.mark.skipif(bool(find_gpus().found), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_waited_for(tmp_path: Path) -> None:
    """Told to use a GPU where none is, it listens, says what it waits for, tells requests to come back, and stops."""
    with start_fake(tmp_path, engine__device="cuda") as daemon:
        daemon.wait_listening()
        daemon.wait_until(lambda: any("waits_for" in worker for worker in daemon.get("/health")[1]["workers"]))
        status, health = daemon.get("/health")
        assert (status, health["status"]) == (503, "loading")
        (worker,) = health["workers"]
        assert (worker["name"], worker["state"], worker["stage"]) == ("gpu0", "waiting", "gpu")
        assert "GPU 0 is not there" in worker["waits_for"]
        with daemon.client() as client, pytest.raises(APIStatusError) as caught:
            client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": "Hi"}])
        assert caught.value.status_code == 503
        assert 1 <= int(caught.value.response.headers["retry-after"]) <= 120
        assert daemon.stop() == 0


def test_a_gpu_that_cannot_be(tmp_path: Path) -> None:
    """What names no GPU is a wrong setting, at once."""
    with serve(tmp_path, "--demo", "--device", "cuda", env={"GEMMAD_WORKERS__GPUS": '["H200"]'}) as daemon:
        assert daemon.wait() == EXIT_CONFIG
        assert "'H200' is neither an index nor a UUID" in daemon.log


def test_a_unix_socket(tmp_path: Path) -> None:
    """It serves on a Unix socket instead of a port, and removes it when it stops."""
    path = tmp_path / "api.sock"
    with start_fake(tmp_path, server__uds=path) as daemon:
        daemon.wait_until(path.exists)
        connection = http.client.HTTPConnection("localhost")
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.connect(str(path))
        connection.request("GET", "/health/live")
        assert connection.getresponse().status == 200
        connection.close()
        assert daemon.stop() == 0
    assert not path.exists()
