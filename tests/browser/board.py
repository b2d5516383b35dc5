"""The dashboard as a person uses it."""

from __future__ import annotations

from playwright.sync_api import Locator, expect

from tests.browser.tab import Tab


class Board:
    """What is on the page, by what a screen reader calls it."""

    def __init__(self, tab: Tab) -> None:
        self.tab = tab
        self.page = tab.page

    def expect_shown(self) -> None:
        """Wait for the first snapshot, and that it is followed by others."""
        expect(self.section("Workers").get_by_role("article").first).to_be_visible()

    def section(self, name: str) -> Locator:
        """A part of the page by its heading."""
        return self.page.get_by_role("region", name=name, exact=True)

    def worker(self, name: str) -> Locator:
        """A worker's card."""
        return self.page.get_by_role("article", name=name, exact=True)

    def button(self, name: str) -> Locator:
        """By its name, with or without the dots that announce a question."""
        return self.page.get_by_role("button", name=name)

    def answer(self, name: str) -> None:
        """Press this in the question that has come up, which goes with it."""
        dialog = self.page.get_by_role("dialog")
        dialog.get_by_role("button", name=name, exact=True).click()
        expect(dialog).to_have_count(0)

    def expect_notice(self, text: str) -> None:
        """Wait for a word about what was done."""
        expect(self.page.get_by_role("status").filter(has_text=text)).to_be_visible()
