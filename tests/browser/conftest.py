"""A browser for each file of tests, pages that tell what went wrong on them, and daemons to look at."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import pytest
from playwright.sync_api import Browser, expect

from tests.browser.chromium import EXECUTABLE, PATIENCE_SECONDS, launched
from tests.browser.tab import Tab
from tests.process.daemon import DaemonProcess, start_demo, start_fake

MAKING_SCREENSHOTS = os.environ.get("GEMMAD_SCREENSHOTS") == "1"
"""Whether those in the docs are to be made anew: then with the address that people have."""
DEFAULT_PORT = 4363

expect.set_options(timeout=PATIENCE_SECONDS * 1000)


@pytest.fixture(scope="session", autouse=True)
def _there_is_a_browser() -> None:
    if EXECUTABLE is None:
        pytest.skip("no browser here: apt install chromium")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """For one file: Playwright keeps an event loop running in this thread, in which other tests have theirs."""
    with launched() as browser:
        yield browser


class OpenTab(Protocol):
    """Opens `url` as `Tab` does."""

    def __call__(self, url: str, **options: Any) -> Tab: ...


@pytest.fixture
def open_tab(browser: Browser) -> Iterator[OpenTab]:
    """Opens pages; each must come to its end without an error, and must not have asked anybody but the daemon."""
    tabs: list[Tab] = []

    def open_one(url: str, **options: Any) -> Tab:
        tabs.append(Tab(browser, url, **options))
        return tabs[-1]

    yield open_one
    unexpected = [fault for tab in tabs for fault in tab.unexpected()]
    for tab in tabs:
        tab.close()
    assert not unexpected, "\n".join(unexpected)


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DaemonProcess]:
    """The real daemon with two real workers on the bundled model."""
    port = ("--port", str(DEFAULT_PORT)) if MAKING_SCREENSHOTS else ()
    with start_demo(tmp_path_factory.mktemp("demo"), *port, env={"GEMMAD_WORKERS__COUNT": "2"}) as daemon:
        daemon.wait_ready()
        yield daemon


@pytest.fixture
def fake(tmp_path: Path) -> Iterator[DaemonProcess]:
    """The real daemon with a well-behaved fake worker: it is there at once."""
    with start_fake(tmp_path) as daemon:
        daemon.wait_ready()
        yield daemon
