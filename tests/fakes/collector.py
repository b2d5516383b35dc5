"""What plays an OpenTelemetry collector: takes OTLP over HTTP and keeps the spans, or hangs, or refuses."""

from __future__ import annotations

import gzip
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

PATIENCE_SECONDS = 20.0


class Collector:
    """Use it in `with`. `status` is what it answers; while `hangs` it answers nothing at all."""

    def __init__(self, *, status: int = 200, hangs: bool = False) -> None:
        self.status = status
        self.asked = 0
        self.spans: list[Span] = []
        self.resource: dict[str, Any] = {}
        self._go_on = threading.Event()
        if not hangs:
            self._go_on.set()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                outer.asked += 1
                body = self.rfile.read(int(self.headers["content-length"]))
                outer._go_on.wait()
                if outer.status == 200 and self.path == "/v1/traces":
                    outer._take(gzip.decompress(body) if self.headers.get("content-encoding") == "gzip" else body)
                self.send_response(outer.status if self.path == "/v1/traces" else 404)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Collector:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._go_on.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def wait_for(self, count: int) -> list[Span]:
        """The spans, once there are so many."""
        give_up = time.monotonic() + PATIENCE_SECONDS
        while len(self.spans) < count:
            assert time.monotonic() < give_up, f"{len(self.spans)} spans came"
            time.sleep(0.01)
        return self.spans

    def traces(self) -> dict[str, list[Span]]:
        """Spans by the id of their trace."""
        found: dict[str, list[Span]] = {}
        for span in self.spans:
            found.setdefault(span.trace_id.hex(), []).append(span)
        return found

    def _take(self, body: bytes) -> None:
        request = ExportTraceServiceRequest.FromString(body)
        for group in request.resource_spans:
            self.resource = {one.key: one.value.string_value for one in group.resource.attributes}
            for scope in group.scope_spans:
                self.spans += scope.spans


def attributes(span: Any) -> dict[str, Any]:
    """Of a span, or an event, as plain values."""
    return {one.key: _plain(one.value) for one in span.attributes}


def _plain(value: Any) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_plain(each) for each in value.array_value.values]
    return getattr(value, kind)
