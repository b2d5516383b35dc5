"""What holds for both pages: every screen, both themes, the keyboard alone, and people who cannot see them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.browser import axe
from tests.browser.board import Board
from tests.browser.chat import Chat, red_circle
from tests.browser.conftest import OpenTab
from tests.browser.tab import DESK, PHONE, Tab
from tests.browser.warden import session, wait_all_ready
from tests.process.daemon import DaemonProcess, start_fake

THEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")
NARROW = (320, 640)
"""What a page on a desk is at 400 %, and WCAG's measure: nobody should have to move it sideways."""
_FOCUSED = """() => {
  const node = document.activeElement;
  const box = node.getBoundingClientRect();
  const around = [node, node.parentElement, node.parentElement?.parentElement].filter(Boolean);
  const look = () => around.map((each) => {
    const { outline, borderColor, boxShadow, backgroundColor } = getComputedStyle(each);
    return [outline, borderColor, boxShadow, backgroundColor].join();
  }).join();
  const focused = look();
  node.blur();
  const calm = look();
  node.focus();
  return {
    ended: node === document.body,
    what: node.id || node.getAttribute("aria-label") || node.textContent.trim().slice(0, 40),
    seen: box.width > 0 && box.bottom > 0 && box.right > 0 && box.left < innerWidth,
    marked: focused !== calm,
  };
}"""
"""What has the focus, whether it is on the screen, and whether it looks otherwise than without."""


@pytest.fixture
def board(demo: DaemonProcess, open_tab: OpenTab) -> Board:
    """The dashboard of a daemon with a past, for somebody who may act."""
    wait_all_ready(demo)
    board = Board(open_tab(session(demo)))
    board.expect_shown()
    return board


@pytest.fixture
def chat(demo: DaemonProcess, open_tab: OpenTab) -> Chat:
    """A chat of two turns, with a picture."""
    wait_all_ready(demo)
    chat = Chat(open_tab(f"{demo.url}/chat"))
    chat.drop(red_circle(), "circle.png")
    expect(chat.previews).to_have_count(1)
    chat.ask("What is in the picture?")
    chat.expect_figures()
    return chat


def test_axe_on_the_dashboard(board: Board) -> None:
    """axe finds no fault on the dashboard in both themes, on a desk and on a phone, nor in a question that it asks."""
    check_everywhere(board.tab)
    board.button("Drain cpu0").click()
    expect(board.page.get_by_role("dialog")).to_be_visible()
    check(board.tab)


def test_axe_on_the_chat(chat: Chat) -> None:
    """axe finds no fault on the chat page, nor with its settings open, nor in the dialog with the request as code."""
    chat.page.get_by_role("button", name="Settings", exact=True).click()
    check_everywhere(chat.tab)
    chat.page.get_by_role("button", name="Copy as code").click()
    expect(chat.page.get_by_role("dialog")).to_be_visible()
    check(chat.tab)


def check_everywhere(tab: Tab) -> None:
    """On each screen in each theme."""
    for size in (PHONE, DESK):
        for theme in THEMES:
            tab.turn(size=size, theme=theme)
            check(tab)
    tab.turn(size=NARROW)
    assert tab.overflow() == 0
    tab.turn(size=DESK)


def check(tab: Tab) -> None:
    """As it is now."""
    assert axe.faults(tab.page) == []
    assert tab.overflow() == 0


def test_the_keyboard_reaches_everything(board: Board, chat: Chat) -> None:
    """Tab leads through each page from the link that skips the bar, shows where it is, and gets stuck nowhere."""
    board.page.keyboard.press("Tab")
    expect(board.page.get_by_role("link", name="Skip to the content")).to_be_focused()
    expect(chat.box).to_be_focused()
    for page, begin in ((board.page, "Skip to the content"), (chat.page, "Skip to the message box")):
        skip = page.get_by_role("link", name=begin)
        skip.focus()
        stops = tab_through(page)
        assert len(stops) > 8, stops
        skip.focus()
        page.keyboard.press("Enter")
        expect(page.locator(":focus")).to_have_attribute("id", re.compile("main|words"))


def tab_through(page: Page) -> list[str]:
    """What has the focus, stop by stop, until the page's end."""
    stops: list[str] = []
    for _ in range(200):
        page.keyboard.press("Tab")
        focused = page.evaluate(_FOCUSED)
        if focused["ended"]:
            return stops
        assert focused["seen"], focused
        assert focused["marked"], focused
        stops.append(focused["what"])
    raise AssertionError(f"no end: {stops[-20:]}")


def test_a_question_has_the_focus_and_gives_it_back(board: Board) -> None:
    """A question is asked, answered and left by the keyboard alone: the focus goes in, stays in and comes back."""
    button = board.button("Recycle cpu0")
    button.focus()
    button.press("Enter")
    dialog = board.page.get_by_role("dialog", name="Recycle cpu0?")
    expect(dialog.locator(":focus")).to_have_count(1)
    for _ in range(5):
        board.page.keyboard.press("Tab")
        assert_inside(dialog)
    board.page.keyboard.press("Escape")
    expect(dialog).to_have_count(0)
    expect(button).to_be_focused()


def assert_inside(dialog: Locator) -> None:
    """The focus is on it, or on the browser's own controls around the page."""
    assert dialog.evaluate(
        "(node) => document.activeElement === document.body || node.contains(document.activeElement)"
    )


def test_a_chosen_theme_stays(board: Board) -> None:
    """Who chooses a theme has it on both pages and after a reload, whatever the system prefers."""
    page = board.page
    page.get_by_role("button", name="Dark", exact=True).click()
    for path in ("", "chat"):
        page.goto(f"{board.tab.origin}/{path}")
        expect(page.get_by_role("button", name="Dark", exact=True)).to_have_attribute("aria-pressed", "true")
        background = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert max(int(number) for number in re.findall(r"\d+", background)) < 60, background


def test_what_goes_wrong_on_a_page_is_seen(fake: DaemonProcess, open_tab: OpenTab) -> None:
    """An exception, an answer that is an error, a dialog, and a request to anybody but the daemon fail a test here."""
    tab = open_tab(f"{fake.url}/chat")
    assert tab.unexpected() == []
    tab.page.evaluate("setTimeout(() => { throw new Error('thrown'); })")
    tab.page.evaluate("fetch('/nowhere')")
    tab.page.evaluate("fetch('http://192.0.2.1/elsewhere').catch(() => {})")
    tab.page.evaluate("alert('shown')")
    for fault in ("error: thrown", "status 404: GET .*/nowhere", "elsewhere", "dialog: alert shown"):
        fake.wait_until(lambda fault=fault: tab.page.title() and re.search(fault, "\n".join(tab.unexpected())))
    tab.expect(".*")


def test_what_a_daemon_without_a_model_says(tmp_path: Path, open_tab: OpenTab) -> None:
    """Where no model is there yet, the dashboard tells what is wrong and how to mend it."""
    with start_fake(tmp_path, model__path=tmp_path / "nothing") as daemon:
        daemon.wait_listening()
        board = Board(open_tab(f"{daemon.url}/"))
        expect(board.section("The daemon")).to_contain_text("To mend it:")
        assert axe.faults(board.page) == []
