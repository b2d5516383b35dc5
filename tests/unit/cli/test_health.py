from __future__ import annotations

import http.server
import json
import socket
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.unit.cli.conftest import Command


@contextmanager
def answering(status: int, body: str, *, uds: Path | None = None) -> Iterator[str]:
    """A server that answers everything alike; yields its URL."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status if self.path == "/health" else 404)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *_: object) -> None:
            pass

        def address_string(self) -> str:
            return "client"

    server: socketserver.BaseServer
    if uds is None:
        tcp = http.server.HTTPServer(("127.0.0.1", 0), Handler)
        server, where = tcp, f"http://127.0.0.1:{tcp.server_port}"
    else:
        server, where = socketserver.UnixStreamServer(str(uds), Handler), str(uds)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield where
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def body(status: str) -> str:
    return json.dumps({"status": status, "workers": []})


@pytest.mark.parametrize(
    ("http_status", "word", "exit_code"), [(200, "ready", 0), (503, "loading", 1), (503, "draining", 1)]
)
def test_the_daemons_word(gemmad: Command, http_status: int, word: str, exit_code: int) -> None:
    """The daemon's status is printed, and its kind is the exit code."""
    with answering(http_status, body(word)) as url:
        said = gemmad("health", "--url", url)
    assert (said.exit_code, said.stdout) == (exit_code, f"{word}\n")


def test_the_whole_answer(gemmad: Command) -> None:
    """--json prints all that the daemon says."""
    with answering(200, body("ready")) as url:
        assert json.loads(gemmad("health", "--json", "--url", url).stdout) == json.loads(body("ready"))


@pytest.mark.parametrize(("http_status", "text"), [(200, "<html>"), (200, "[]"), (404, "{}"), (200, "")])
def test_somebody_else_answers(gemmad: Command, http_status: int, text: str) -> None:
    """An answer that is not ours is no answer."""
    with answering(http_status, text) as url:
        said = gemmad("health", "--url", url)
    assert said.exit_code == 2
    assert said.stderr.startswith(f"gemmad: no answer at {url}: ")


def test_nobody_answers(gemmad: Command) -> None:
    """A refused connection is no answer."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        said = gemmad("health", "--url", f"http://127.0.0.1:{free.getsockname()[1]}")
    assert said.exit_code == 2


def test_somebody_silent(gemmad: Command) -> None:
    """One who takes the connection and says nothing is given up on after the timeout."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        said = gemmad("health", "--timeout", "0.1", "--url", f"http://127.0.0.1:{silent.getsockname()[1]}")
    assert said.exit_code == 2
    assert "timed out" in said.stderr


def test_the_configuration_knows_where(gemmad: Command, config_dir: Path) -> None:
    """Without --url the configured port is asked, at this machine where the daemon listens on all addresses."""
    with answering(200, body("ready")) as url:
        port = url.rpartition(":")[2]
        (config_dir / "gemmad.toml").write_text(f"[server]\nhost = '0.0.0.0'\nport = {port}\n")
        assert gemmad("health").exit_code == 0


def test_the_running_daemon_knows_better(gemmad: Command, config_dir: Path) -> None:
    """What a running daemon notes about where it listens is asked before the configuration."""
    (config_dir / "run").mkdir()
    with answering(200, body("ready")) as url:
        (config_dir / "run" / "address").write_text(f"{url}\n")
        assert gemmad("health").exit_code == 0
    with answering(200, body("ready"), uds=config_dir / "s"):
        (config_dir / "run" / "address").write_text(f"unix:{config_dir / 's'}\n")
        assert gemmad("health").exit_code == 0


def test_a_unix_socket(gemmad: Command, config_dir: Path) -> None:
    """A daemon on a Unix socket is asked there."""
    path = config_dir / "s"
    (config_dir / "gemmad.toml").write_text(f"[server]\nuds = '{path}'\n")
    with answering(200, body("ready"), uds=path):
        assert gemmad("health").exit_code == 0
    assert gemmad("health").exit_code == 2


@pytest.mark.parametrize("url", ["ftp://x", "localhost:4363", "http://", "http://x:port", "http://[::1"])
def test_what_is_no_url(gemmad: Command, url: str) -> None:
    """What is no URL is a mistake of the caller."""
    assert gemmad("health", "--url", url).exit_code == 2


def test_a_bad_configuration(gemmad: Command, config_dir: Path) -> None:
    """A configuration with errors cannot say where the daemon is."""
    (config_dir / "gemmad.toml").write_text("[server]\nport = 'x'\n")
    assert gemmad("health").exit_code == 78
