"""Daemons in processes of their own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.process.daemon import DaemonProcess, start_demo, start_fake


@pytest.fixture(scope="session")
def demo_daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DaemonProcess]:
    """The real daemon with the real worker and the bundled model, ready; one for the whole session."""
    with start_demo(tmp_path_factory.mktemp("demo")) as daemon:
        daemon.wait_ready()
        yield daemon


@pytest.fixture
def fake_daemon(tmp_path: Path) -> Iterator[DaemonProcess]:
    """The real daemon with a well-behaved fake worker, ready."""
    with start_fake(tmp_path) as daemon:
        daemon.wait_ready()
        yield daemon
