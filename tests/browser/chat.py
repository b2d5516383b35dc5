"""The chat page as a person uses it."""

from __future__ import annotations

import base64
import re

from PIL import Image, ImageDraw
from playwright.sync_api import Locator, expect

from tests.browser.tab import Tab
from tests.fakes.media_pictures import saved

_MAKE_TRANSFER = """([name, type, data]) => {
  const bytes = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
  const transfer = new DataTransfer();
  transfer.items.add(new File([bytes], name, { type }));
  return transfer;
}"""
_COPY = """async (data) => {
  const bytes = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
  await navigator.clipboard.write([new ClipboardItem({ "image/png": new Blob([bytes], { type: "image/png" }) })]);
}"""
CLIPBOARD = ("clipboard-read", "clipboard-write")
"""Permissions that `Chat.paste` needs."""


class Chat:
    """What is on the page, by what a screen reader calls it."""

    def __init__(self, tab: Tab) -> None:
        self.tab = tab
        self.page = tab.page
        self.box = tab.page.get_by_role("textbox", name="Message")
        self.send_button = tab.page.get_by_role("button", name="Send")
        self.stop_button = tab.page.get_by_role("button", name="Stop", exact=True)
        self.previews = tab.page.get_by_role("list", name="Pictures to send").get_by_role("img")
        self.turns = tab.page.locator("#turns > li")

    @property
    def reply(self) -> Locator:
        """The last turn of the model."""
        return self.page.locator("#turns > li.assistant").last

    @property
    def words(self) -> Locator:
        """What the model says in it."""
        return self.reply.locator(".prose")

    def ask(self, text: str) -> None:
        """Write and send, by keyboard."""
        expect(self.page.locator("#model")).not_to_have_value("")  # which is not shown where it is the only one
        self.box.fill(text)
        self.box.press("Enter")

    def set_parameter(self, label: str, value: str) -> None:
        """Fill a field of the settings, which are opened for it."""
        if not self.page.get_by_role("complementary", name="Settings").is_visible():
            self.page.get_by_role("button", name="Settings", exact=True).click()
        self.page.get_by_label(label, exact=True).fill(value)

    def paste(self, picture: bytes) -> None:
        """Take a PNG through the real clipboard."""
        self.page.evaluate(_COPY, base64.b64encode(picture).decode())
        self.box.press("Control+V")

    def drop(self, picture: bytes, name: str) -> None:
        """Let a PNG fall onto the page."""
        data = [name, "image/png", base64.b64encode(picture).decode()]
        transfer = self.page.evaluate_handle(_MAKE_TRANSFER, data)
        for event in ("dragenter", "dragover", "drop"):
            self.box.dispatch_event(event, {"dataTransfer": transfer})

    def choose(self, picture: bytes, name: str) -> None:
        """Pick a file by the button."""
        with self.page.expect_file_chooser() as chosen:
            self.page.get_by_role("button", name="Add pictures").click()
        chosen.value.set_files({"name": name, "mimeType": "image/png", "buffer": picture})

    def expect_end(self) -> None:
        """Wait for the reply to be complete."""
        expect(self.reply).to_have_attribute("aria-busy", "false")

    def expect_figures(self) -> tuple[int, int]:
        """Wait for what is told below a reply; its tokens of prompt and reply."""
        figures = self.reply.get_by_text(re.compile(r"\d+ prompt \+ \d+ reply tokens"))
        expect(figures).to_be_visible()
        prompt, reply = re.findall(r"\d+", figures.inner_text())[:2]
        return int(prompt), int(reply)


def red_circle(size: int = 64) -> bytes:
    """A PNG of something that the bundled model knows."""
    large = Image.new("RGB", (4 * size, 4 * size), "white")
    edge = 4 * size * 3 // 16
    ImageDraw.Draw(large).ellipse((edge, edge, 4 * size - edge, 4 * size - edge), fill="red")
    return saved(large.resize((size, size)), "PNG")
