"""What the pages look like. `make screenshots` keeps the pictures for the docs; every other run only looks at them."""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import expect

from tests.browser.board import Board
from tests.browser.chat import Chat, red_circle
from tests.browser.conftest import MAKING_SCREENSHOTS, OpenTab
from tests.browser.tab import Tab
from tests.browser.warden import see, session, wait_all_ready
from tests.process.daemon import ROOT, DaemonProcess

KEPT = ROOT / "docs" / "images"
ENOUGH_REQUESTS = 700 if MAKING_SCREENSHOTS else 3
"""So many are answered before pictures are taken: a chart of seconds is no sight."""
MOST_BYTES = 200_000
DESK, PHONE = (1280, 1200), (390, 844)
THEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")


@pytest.fixture(scope="module")
def used(demo: DaemonProcess) -> Iterator[DaemonProcess]:
    """A daemon that several people have asked for a while, and still ask."""
    wait_all_ready(demo)
    people = subprocess.Popen([sys.executable, "-m", "tests.browser.asking", demo.url], cwd=ROOT)
    try:
        demo.wait_until(lambda: see(demo).requests.finished >= ENOUGH_REQUESTS, seconds=500)
        yield demo
    finally:
        people.kill()
        people.wait()


@pytest.fixture
def keep(tmp_path: Path) -> Callable[[Tab, str], None]:
    """Takes a picture, looks at it, and keeps it where it belongs."""
    folder = KEPT if MAKING_SCREENSHOTS else tmp_path
    folder.mkdir(exist_ok=True)

    def keep(tab: Tab, name: str) -> None:
        tab.page.evaluate("document.activeElement.blur(), window.getSelection().removeAllRanges()")
        picture = Image.open(io.BytesIO(tab.page.screenshot(caret="hide")))
        assert_sight(picture, dark="dark" in name)
        file = folder / f"{name}.png"
        picture.convert("RGB").save(file, optimize=True)
        assert file.stat().st_size < MOST_BYTES, name

    return keep


def assert_sight(picture: Image.Image, *, dark: bool) -> None:
    """There is something on it, on a ground of the theme's brightness."""
    grey = np.asarray(picture.convert("L"))
    assert len(np.unique(grey)) > 50
    assert (grey != np.median(grey)).mean() > 0.02
    assert np.median(grey) < 60 if dark else np.median(grey) > 200


@pytest.mark.timeout(600)
def test_the_dashboard(used: DaemonProcess, open_tab: OpenTab, keep: Callable[[Tab, str], None]) -> None:
    """The dashboard shows itself in both themes, and on a phone."""
    tab = open_tab(session(used), size=DESK)
    board = Board(tab)
    board.expect_shown()
    for theme in THEMES:
        tab.turn(theme=theme)
        until_drawn(board)
        keep(tab, f"dashboard-{theme}")
    phone = open_tab(session(used), size=PHONE)
    until_drawn(Board(phone))
    keep(phone, "dashboard-phone")


def until_drawn(board: Board) -> None:
    """Return once it has shown another second: all of it follows the theme by then."""
    up = board.page.locator(".fact", has_text="Up").locator("dd")
    expect(up).not_to_have_text(up.inner_text())


@pytest.mark.timeout(600)
def test_the_chat(used: DaemonProcess, open_tab: OpenTab, keep: Callable[[Tab, str], None]) -> None:
    """The chat shows itself in both themes, and on a phone."""
    tab = open_tab(f"{used.url}/chat", size=(1280, 800))
    chat = Chat(tab)
    chat.set_parameter("Temperature", "0")
    chat.drop(red_circle(160), "circle.png")
    expect(chat.previews).to_have_count(1)
    for turn, question in enumerate(("What is in the picture?", "Count to 10."), 1):
        chat.ask(question)
        expect(chat.turns).to_have_count(2 * turn)
        chat.expect_figures()
    for theme in THEMES:
        tab.turn(theme=theme)
        keep(tab, f"chat-{theme}")
    chat.page.get_by_role("button", name="Settings", exact=True).click()
    tab.turn(size=PHONE, theme="light")
    keep(tab, "chat-phone")
