"""`gemmad serve` of the project's own environment, for clients that live in others and cannot import it."""

from __future__ import annotations

import os
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[2]
GEMMAD = ROOT / ".venv" / "bin" / "gemmad"
MODEL = "gemma-3-demo"
PATIENCE_SECONDS = 120.0


@contextmanager
def serving(folder: Path, *flags: str, settings: Mapping[str, str] | None = None) -> Iterator[str]:
    """The URL of a daemon on a free port, without `/v1`; it is stopped at the end. `settings` are variables."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("GEMMAD_")}
    folders = {f"GEMMAD_{name}_DIR": str(folder / name.lower()) for name in ("CONFIG", "STATE", "CACHE", "RUNTIME")}
    env = {**clean, **folders, "GEMMAD_ENGINE__DEVICE": "cpu", **(settings or {})}
    with (folder / "log").open("w") as log:
        process = subprocess.Popen([GEMMAD, "serve", "--port", "0", *flags], env=env, stdout=log, stderr=log)
    try:
        yield _wait_ready(process, folder)
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_ready(process: subprocess.Popen[bytes], folder: Path) -> str:
    address = folder / "runtime" / "address"
    give_up = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < give_up:
        assert process.poll() is None, (folder / "log").read_text()
        if address.exists() and (url := address.read_text().strip()) and _is_ready(url):
            return url
        time.sleep(0.1)
    raise AssertionError(f"it did not become ready:\n{(folder / 'log').read_text()}")


def _is_ready(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/health", timeout=5) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False
