"""A hub on this machine: an HTTP server that speaks its API as far as a pull needs it, and misbehaves when told."""

from __future__ import annotations

import hashlib
import http.server
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

LARGE_BYTES = 1 << 20
"""Files above it are stored with Git LFS, as far as anybody can see."""


class FakeHub:
    """One repository. Its attributes may be changed between, and during, requests."""

    def __init__(self, url: str, repo: str, files: dict[str, bytes]) -> None:
        self.url = url
        self.repo = repo
        self.files = dict(files)
        self.commit = "a" * 40
        self.revisions = {"main": self.commit}
        self.gate: str | None = None
        """The token that opens it; None: it is not gated."""
        self.cut_after: dict[str, list[int]] = {}
        """Bytes of a file after which a connection ends, one for each of its next requests."""
        self.holding: tuple[str, int] | None = None
        """A file, and after how many of its bytes the rest waits for `released`."""
        self.released = threading.Event()
        self.failing = 0
        """How many of the next requests for files are a 503."""
        self.lies: dict[str, bytes] = {}
        """What is sent instead of a file, which is listed as it should be."""
        self.knows_ranges = True
        self.sends_away = False
        """Large files are fetched from another host, where a redirection leads."""
        self.asked: list[tuple[str, str | None]] = []
        """Files and ranges that were asked for."""
        self.tokens: set[str] = set()
        """Authorization headers that came."""
        self.tokens_elsewhere: set[str | None] = set()
        """Those that came to the other host; None: a request without."""

    def requests_of(self, file: str) -> list[str | None]:
        """The ranges of this file that were asked for."""
        return [span for name, span in self.asked if name == file]

    def info(self) -> dict[str, Any]:
        """As `GET /api/models/REPO?blobs=true` tells it."""
        siblings = [_sibling(name, content) for name, content in self.files.items()]
        return {"id": self.repo, "sha": self.commit, "siblings": siblings, "gated": bool(self.gate), "tags": []}


@contextmanager
def fake_hub(repo: str, files: dict[str, bytes]) -> Iterator[FakeHub]:
    """Serve until the end of the block."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.daemon_threads = False
    hub = FakeHub(f"http://127.0.0.1:{server.server_address[1]}", repo, files)
    server.hub = hub  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, name="hub")
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def files_of(folder: Path) -> dict[str, bytes]:
    """A checkpoint as a repository's content."""
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.is_file()}


def _sibling(name: str, content: bytes) -> dict[str, Any]:
    told: dict[str, Any] = {"rfilename": name, "size": len(content), "blobId": _blob_id(content)}
    if len(content) > LARGE_BYTES:
        digest = hashlib.sha256(content).hexdigest()
        told |= {"blobId": "b" * 40, "lfs": {"sha256": digest, "size": len(content), "pointerSize": 134}}
    return told


def _blob_id(content: bytes) -> str:
    return hashlib.sha1(f"blob {len(content)}\0".encode() + content).hexdigest()


class _Handler(http.server.BaseHTTPRequestHandler):
    @property
    def hub(self) -> FakeHub:
        return self.server.hub  # type: ignore[attr-defined,no-any-return]

    def do_GET(self) -> None:
        parts = [unquote(part) for part in urlsplit(self.path).path.strip("/").split("/")]
        token = self.headers.get("Authorization")
        if parts[0] == "elsewhere":
            self.hub.tokens_elsewhere.add(token)
            self._send_content(parts[1])
            return
        if token is not None:
            self.hub.tokens.add(token)
        if parts[:2] == ["api", "models"]:
            self._tell(parts[2:])
        elif parts[2:3] == ["resolve"]:
            self._send_file("/".join(parts[:2]), parts[4])
        else:
            self._refuse(404, "EntryNotFound")

    def log_message(self, *_: object) -> None:
        pass

    def _tell(self, parts: list[str]) -> None:
        repo, revision = "/".join(parts[:2]), parts[3] if len(parts) > 3 else "main"
        if repo != self.hub.repo:
            self._refuse(401, "RepoNotFound")
        elif revision not in (*self.hub.revisions, self.hub.commit):
            self._refuse(404, "RevisionNotFound")
        else:
            self._answer(200, json.dumps(self.hub.info()).encode(), {"Content-Type": "application/json"})

    def _send_file(self, repo: str, name: str) -> None:
        hub = self.hub
        hub.asked.append((name, self.headers.get("Range")))
        if hub.gate is not None and self.headers.get("Authorization") != f"Bearer {hub.gate}":
            self._refuse(403 if self.headers.get("Authorization") else 401, "GatedRepo")
            return
        if repo != hub.repo or name not in hub.files:
            self._refuse(404, "EntryNotFound")
            return
        if hub.failing:
            hub.failing -= 1
            self._refuse(503, "")
            return
        if hub.sends_away and len(hub.files[name]) > LARGE_BYTES:
            self._answer(302, b"", {"Location": f"{hub.url.replace('127.0.0.1', 'localhost')}/elsewhere/{name}"})
            return
        self._send_content(name)

    def _send_content(self, name: str) -> None:
        hub = self.hub
        content, begin, status = hub.lies.get(name, hub.files[name]), 0, 200
        if (span := self.headers.get("Range")) and hub.knows_ranges:
            begin, status = int(span.removeprefix("bytes=").rstrip("-")), 206
        if hub.holding is not None and hub.holding[0] == name:
            self._answer(status, content[begin:], {}, sent=hub.holding[1])
            hub.released.wait(30)
            return
        cuts = hub.cut_after.get(name)
        self._answer(status, content[begin:], {}, sent=cuts.pop(0) if cuts else None)

    def _refuse(self, status: int, code: str) -> None:
        self._answer(status, b'{"error": "no"}', {"X-Error-Code": code, "Content-Type": "application/json"})

    def _answer(self, status: int, body: bytes, headers: dict[str, str], *, sent: int | None = None) -> None:
        """`sent`: how much of the body, before the connection ends."""
        self.send_response(status)
        for key, value in {**headers, "Content-Length": str(len(body)), "Connection": "close"}.items():
            self.send_header(key, value)
        self.end_headers()
        self.wfile.write(body if sent is None else body[:sent])
        self.wfile.flush()
        self.close_connection = True
