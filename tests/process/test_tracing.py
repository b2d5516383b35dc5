"""The real daemon and a collector: spans from the request to the worker's steps, and collectors that are no help."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from tests.fakes.collector import Collector, attributes
from tests.fakes.worker import Behaviour
from tests.process.daemon import MODEL, ROOT, DaemonProcess, start_fake

HI: Any = [{"role": "user", "content": "My secret is xyzzy."}]
TRACE, CALLER = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
SLOW = Behaviour(step_seconds=0.02)


def ask(daemon: DaemonProcess, *, max_tokens: int = 8, name: str = "mine") -> None:
    headers = {"x-request-id": name, "traceparent": f"00-{TRACE}-{CALLER}-01"}
    with daemon.client() as client:
        client.chat.completions.create(model=MODEL, messages=HI, max_tokens=max_tokens, extra_headers=headers)


def by_name(spans: list[Any]) -> dict[str, Any]:
    return {span.name: span for span in spans}


def test_from_a_request_to_a_workers_steps(tmp_path: Path) -> None:
    """A collector gets the caller's trace with the worker that served it, its process, and the steps that it took; the
    log has the same trace."""
    with Collector() as collector, start_fake(tmp_path, SLOW, tracing__endpoint=collector.url) as daemon:
        daemon.wait_ready()
        ask(daemon)
        spans = by_name(collector.wait_for(6))
        pids = workers(daemon)
        assert daemon.stop() == 0
        (line,) = daemon.events("request finished")
    root, stay, prefill, decode = (spans[name] for name in (f"chat {MODEL}", "worker", "prefill", "decode"))
    assert {span.trace_id.hex() for span in spans.values()} == {TRACE}
    assert line["trace_id"] == TRACE
    assert root.parent_span_id.hex() == CALLER
    assert (prefill.parent_span_id, decode.parent_span_id) == (stay.span_id, stay.span_id)
    assert attributes(root)["gen_ai.usage.output_tokens"] == attributes(stay)["gemmad.tokens"] == 8
    assert attributes(stay)["gemmad.worker.name"] == "cpu0"
    assert attributes(stay)["process.pid"] in pids
    assert attributes(decode)["gemmad.step.last"] - attributes(prefill)["gemmad.step.last"] == 7
    assert abs(root.start_time_unix_nano / 1e9 - time.time()) < 60
    assert "xyzzy" not in str(collector.spans)


def test_a_worker_that_is_killed(tmp_path: Path) -> None:
    """A request that outlives its worker has both in one trace, and why it moved."""
    with Collector() as collector, start_fake(tmp_path, SLOW, tracing__endpoint=collector.url) as daemon:
        daemon.wait_ready()
        with daemon.client() as client:
            stream = client.chat.completions.create(model=MODEL, messages=HI, max_tokens=60, stream=True)
            next(stream)
            for pid in workers(daemon):
                os.kill(pid, signal.SIGKILL)
            for _ in stream:
                pass
        collector.wait_for(9)
        spans = collector.spans
    first, second = [span for span in spans if span.name == "worker"]
    (root,) = [span for span in spans if span.name.startswith("chat")]
    assert [link.span_id for link in second.links] == [first.span_id]
    assert first.status.code == first.status.STATUS_CODE_ERROR
    assert [event.name for event in root.events] == ["failover"]
    assert attributes(first)["process.pid"] != attributes(second)["process.pid"]
    assert attributes(first)["gemmad.tokens"] + attributes(second)["gemmad.tokens"] == 60


def test_a_collector_that_hangs(tmp_path: Path) -> None:
    """Requests are answered as ever, and the daemon stops in time."""
    with Collector(hangs=True) as collector, start_fake(tmp_path, tracing__endpoint=collector.url) as daemon:
        daemon.wait_ready()
        for number in range(50):
            ask(daemon, name=f"mine-{number}")
        began = time.monotonic()
        assert daemon.stop() == 0
        assert time.monotonic() - began < 10
        assert len(daemon.events("request finished")) == 50


def test_a_collector_that_is_not_there(tmp_path: Path) -> None:
    """It is said once that spans are not taken; nothing else changes."""
    with start_fake(tmp_path, tracing__endpoint="http://127.0.0.1:9") as daemon:
        daemon.wait_ready()
        for number in range(3):
            ask(daemon, name=f"mine-{number}")
        assert daemon.stop() == 0
        (line,) = daemon.events("spans are not taken")
        assert "refused" in line["reason"].lower()


def test_without_the_extra(tmp_path: Path) -> None:
    """An endpoint without OpenTelemetry is found by `gemmad config check`, and the daemon does not start with it."""
    (tmp_path / "opentelemetry").mkdir()
    (tmp_path / "opentelemetry" / "__init__.py").touch()  # a package that hides the real one
    env = {**os.environ, "PYTHONPATH": str(tmp_path), "GEMMAD_TRACING__ENDPOINT": "http://127.0.0.1:4318"}
    env |= {f"GEMMAD_{name}_DIR": str(tmp_path / name.lower()) for name in ("CONFIG", "STATE", "CACHE", "RUNTIME")}
    for words in (("config", "check"), ("serve", "--demo", "--port", "0")):
        command = [sys.executable, "-m", "gemmad", *words]
        said = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=60, check=False)
        assert said.returncode == 78, said.stderr
        assert "pip install 'gemmad[otel]'" in said.stderr + said.stdout


def workers(daemon: DaemonProcess) -> set[int]:
    """Processes that play workers."""
    found = set()
    for pid in daemon.children():
        words = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
        if any("worker" in word for word in words):
            found.add(pid)
    return found
