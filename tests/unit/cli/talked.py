"""An API that the test plays: it says what it was given, piece by piece, and remembers what it was asked."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class PlayedApi:
    """What it answers, and what it was asked."""

    def __init__(self) -> None:
        self.url = ""
        self.models = ["gemma", "alias"]
        self.pieces: list[str] = ["Hel", "lo"]
        """Of each answer."""
        self.finish = "stop"
        self.refusal: tuple[int, str] | None = None
        """Status and message, instead of an answer."""
        self.failure: str | None = None
        """An error after the pieces, instead of an end."""
        self.breaks_off = False
        """It hangs up after the pieces."""
        self.waits: threading.Event | None = None
        """After the pieces it says nothing more until then."""
        self.said_all = threading.Event()
        self.keys: list[str | None] = []
        self.bodies: list[dict[str, Any]] = []

    @property
    def messages(self) -> list[dict[str, Any]]:
        """Of the last request."""
        said: list[dict[str, Any]] = self.bodies[-1]["messages"]
        return said

    def events(self) -> Iterator[str]:
        """The stream after its head."""
        for piece in self.pieces:
            yield json.dumps({"choices": [{"index": 0, "delta": {"content": piece}, "finish_reason": None}]})
        if self.waits is not None:
            self.said_all.set()
            self.waits.wait(10)
        if self.failure is not None:
            yield json.dumps({"error": {"message": self.failure}})
        elif not self.breaks_off:
            yield json.dumps({"choices": [{"index": 0, "delta": {}, "finish_reason": self.finish}]})
            yield "[DONE]"


@contextmanager
def talking() -> Iterator[PlayedApi]:
    """One that listens at its `url`."""
    api = PlayedApi()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer(json.dumps({"data": [{"id": name} for name in api.models]}).encode())

        def do_POST(self) -> None:
            api.keys.append(self.headers["Authorization"])
            api.bodies.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            if api.refusal is not None:
                status, message = api.refusal
                self._answer(json.dumps({"error": {"message": message}}).encode(), status)
                return
            self._answer(None)
            for event in api.events():
                self.wfile.write(f": ping\n\ndata: {event}\n\n".encode())

        def _answer(self, body: bytes | None, status: int = 200) -> None:
            self.send_response(status)
            if body is not None:
                self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body or b"")

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = False
        api.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield api
        finally:
            if api.waits is not None:
                api.waits.set()
            server.shutdown()
            thread.join()
