"""Debian's Chromium, driven by Playwright, which brings no browser of its own here."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator

from playwright.sync_api import Browser, sync_playwright

EXECUTABLE = shutil.which("chromium")
PATIENCE_SECONDS = 30.0
"""How long something may take to be seen on a page; two slow cores draw while they compute."""


@contextlib.contextmanager
def launched() -> Iterator[Browser]:
    """A browser without a window. As root it does without its sandbox, which wants another user."""
    options = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=EXECUTABLE, args=options)
        try:
            yield browser
        finally:
            browser.close()
