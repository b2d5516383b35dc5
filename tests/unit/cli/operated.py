"""A control socket that the test plays: it answers with what it was given and remembers what it was asked."""

from __future__ import annotations

import http.server
import json
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from gemmad.api.overview import Asked, Configuration, Overview, Requests, Tokens, WorkerOverview
from gemmad.generation import Capacity, EngineLoad

CAPACITY = Capacity(
    max_context=4096, max_sequences=16, max_step_tokens=2048, page_tokens=16, full_pages=100, sliding_pages=100
)


def worker(name: str = "gpu0", *, state: str = "ready", **fields: Any) -> WorkerOverview:
    """A worker that is well, or as `fields` say."""
    usual: dict[str, Any] = {
        "device": "cuda:0",
        "gpu": "GPU-1",
        "drained": False,
        "recycling": False,
        "state_seconds": 62.0,
        "life": 1,
        "pid": 4711,
        "stage": None,
        "progress": None,
        "waits_for": None,
        "requests": 5,
        "kv_usage": None,
        "load": None,
        "capacity": CAPACITY,
        "memory": (),
        "faults": 0.0,
        "last_error": None,
        "retry_in_seconds": None,
        "next_recycle_in_seconds": None,
        "last_recycle": None,
        "successor": None,
    }
    return WorkerOverview(name=name, state=state, **(usual | fields))


def overview(*workers: WorkerOverview, state: str = "ready", **fields: Any) -> Overview:
    """A daemon with these workers."""
    usual: dict[str, Any] = {
        "version": "1.2.3",
        "pid": 123,
        "uptime_seconds": 11000.0,
        "degraded": state != "ready",
        "url": "http://127.0.0.1:4363",
        "models": ("gemma-3-12b-it",),
        "max_context": 8192,
        "config": Configuration(path=None, reload=None),
        "requests": Requests(
            running=3,
            waiting=1,
            total=11,
            refused=2,
            finished=4,
            failed=1,
            abandoned=0,
            failovers=0,
            quarantined=0,
        ),
        "tokens": Tokens(prompt=100, generated=50, per_second=12.5),
    }
    return Overview(state=state, workers=workers, **(usual | fields))


BUSY = EngineLoad(
    running=12,
    waiting=2,
    preemptions=3,
    prompt_tokens=200,
    cached_tokens=50,
    device_bytes=70 << 30,
    host_rss_bytes=3 << 30,
)


class PlayedSocket:
    """What it answers, and what it was asked."""

    def __init__(self) -> None:
        self.overviews: list[Overview] = [overview(worker())]
        """One for each look; the last one stays."""
        self.status = 200
        self.body: bytes | None = None
        """Instead of all else."""
        self.asked: list[str] = []

    def refuse(self, status: int, message: str) -> None:
        """From now on, to everything."""
        self.status, self.body = status, json.dumps({"error": {"message": message}}).encode()

    def answer(self, method: str, path: str) -> bytes:
        """The body."""
        self.asked.append(f"{method} {path}")
        if self.body is not None:
            return self.body
        seen = self.overviews.pop(0) if len(self.overviews) > 1 else self.overviews[0]
        return msgspec.json.encode(seen if method == "GET" else Asked(seen.workers))


@contextmanager
def played(folder: Path) -> Iterator[PlayedSocket]:
    """A socket in this runtime folder."""
    socket = PlayedSocket()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = socket.answer(self.command, self.path)
            self.send_response(socket.status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if body:  # who got all may have hung up
                self.wfile.write(body)

        do_POST = do_GET  # noqa: N815 - the library's name

        def log_message(self, *_: object) -> None:
            pass

        def address_string(self) -> str:
            return "client"

    folder.mkdir(exist_ok=True)
    server = socketserver.UnixStreamServer(str(folder / "control.sock"), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield socket
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
        (folder / "control.sock").unlink()
