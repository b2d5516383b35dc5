"""API keys of a real daemon: in its file, in its socket, and nowhere else."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

from openai import AuthenticationError

from tests.fakes.worker import Behaviour
from tests.process.daemon import MODEL, DaemonProcess, start_demo, start_fake

OLD, NEW = "sk-the-old-secret", "sk-the-new-secret"


def key_file(folder: Path, text: str) -> Path:
    path = folder / "keys"
    path.write_text(text)
    path.chmod(0o600)
    return path


def opens(daemon: DaemonProcess, key: str) -> bool:
    try:
        with daemon.client() as client:
            return bool(client.with_options(api_key=key).models.list().data)
    except AuthenticationError:
        return False


def test_new_keys_and_a_stream(tmp_path: Path) -> None:
    """An edit of the file of keys takes effect by itself, a broken one is told and changes nothing, and a stream that
    was begun with a key that is gone goes on to its end."""
    path = key_file(tmp_path, f"alice:{OLD}\n")
    with start_fake(tmp_path, Behaviour(step_seconds=0.05), auth__api_keys_file=path) as daemon:
        daemon.wait_ready()
        assert opens(daemon, OLD)
        with daemon.client() as client:
            stream = client.with_options(api_key=OLD).chat.completions.create(
                model=MODEL, messages=[{"role": "user", "content": "Hi"}], max_tokens=200, seed=1, stream=True
            )
            chunks = [next(stream)]
            path.write_text("alice:short\n")
            daemon.wait_until(lambda: daemon.events("config refused, the running one stays"))
            assert opens(daemon, OLD)
            path.write_text(f"alice:{NEW}\n")
            daemon.wait_until(lambda: opens(daemon, NEW))
            assert not opens(daemon, OLD)
            assert len(chunks) == 1
            chunks += list(stream)
        assert chunks[-1].choices[0].finish_reason == "length"
        status = subprocess.run(
            [sys.executable, "-m", "gemmad", "status", "--json"],
            env={**os.environ, "GEMMAD_RUNTIME_DIR": str(tmp_path / "runtime")},
            capture_output=True,
            text=True,
            check=False,
        ).stdout
        assert "API keys" in json.loads(status)["config"]["reload"]["applied"]
        written = daemon.log + status
        for secret in (OLD, NEW, "short"):
            assert secret not in written
        assert OLD.encode() not in Path(f"/proc/{daemon.process.pid}/environ").read_bytes()


def test_an_open_door_is_refused(tmp_path: Path) -> None:
    """An address that others can reach is not listened on without a key: exit 78, and words that help."""
    with start_demo(tmp_path, "--host", "0.0.0.0") as daemon:
        assert daemon.wait() == 78
        assert "no API key is set" in daemon.log
        assert "listening" not in daemon.log
    path = key_file(tmp_path, f"alice:{OLD}\n")
    with start_fake(tmp_path, server__host="0.0.0.0", auth__api_keys_file=path) as daemon:
        daemon.wait_ready()
        assert opens(daemon, OLD)
    with start_fake(tmp_path, server__host="0.0.0.0", server__allow_open="true") as daemon:
        daemon.wait_ready()
        assert opens(daemon, "anything-at-all")
        assert daemon.events("no API key is set: everyone who can connect may call")


def test_a_unix_socket_has_no_name(tmp_path: Path) -> None:
    """What comes over a Unix socket may call the server whatever it likes."""
    path = tmp_path / "api.sock"
    with start_fake(tmp_path, server__uds=path) as daemon:
        daemon.wait_listening()
        with socket.socket(socket.AF_UNIX) as sock:
            sock.connect(str(path))
            sock.sendall(b"GET /health/live HTTP/1.1\r\nHost: evil.example\r\n\r\n")
            assert sock.recv(1000).startswith(b"HTTP/1.1 200 ")
