"""A page as a person has it open, with a list of all that went wrong on it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal
from urllib.parse import urlsplit

from playwright.sync_api import Browser, ConsoleMessage, Dialog, Page, Request, Response

from tests.browser.chromium import PATIENCE_SECONDS

PHONE = (360, 740)
DESK = (1280, 900)
LOCAL = ("data:", "blob:")
"""What a page makes itself and no network sees."""
LEFT = ("net::ERR_ABORTED",)
"""A request that the page gave up itself: a stream when it was closed, a reply that was stopped."""


class Tab:
    """One page in a profile of its own: no cookie, key or setting of another one is there."""

    def __init__(
        self,
        browser: Browser,
        url: str,
        *,
        size: tuple[int, int] = DESK,
        theme: Literal["light", "dark"] = "light",
        scale: float = 1.0,
        permissions: Sequence[str] = (),
    ) -> None:
        """Open `url`, without motion. `scale`: pixels of the screen for one of the page."""
        self.origin = _origin(url)
        self.faults: list[str] = []
        self.requested: list[str] = []
        self._expected: list[re.Pattern[str]] = []
        width, height = size
        self._context = browser.new_context(
            viewport={"width": width, "height": height},
            color_scheme=theme,
            device_scale_factor=scale,
            reduced_motion="reduce",
            permissions=list(permissions),
            locale="en-GB",
            timezone_id="UTC",
        )
        self._context.set_default_timeout(PATIENCE_SECONDS * 1000)
        self.page: Page = self._context.new_page()
        self.page.on("console", self._on_console)
        self.page.on("pageerror", lambda error: self._fault(f"error: {error}"))
        self.page.on("request", self._on_request)
        self.page.on("requestfailed", self._on_request_failed)
        self.page.on("response", self._on_response)
        self.page.on("dialog", self._on_dialog)
        self.page.goto(url, wait_until="load")

    def expect(self, *patterns: str) -> None:
        """What matches one of these went wrong on purpose."""
        self._expected += [re.compile(pattern) for pattern in patterns]

    def unexpected(self) -> list[str]:
        """What went wrong, and should not have."""
        return [fault for fault in self.faults if not any(each.search(fault) for each in self._expected)]

    def turn(self, *, size: tuple[int, int] | None = None, theme: Literal["light", "dark"] | None = None) -> None:
        """Another screen, or other colours of the system, for the page that is open."""
        if size is not None:
            self.page.set_viewport_size({"width": size[0], "height": size[1]})
        if theme is not None:
            self.page.emulate_media(color_scheme=theme)

    def overflow(self) -> int:
        """Pixels that the page is wider than the screen."""
        return int(self.page.evaluate("document.scrollingElement.scrollWidth - document.documentElement.clientWidth"))

    def close(self) -> None:
        """Close the page and forget its profile."""
        self._context.close()

    def _fault(self, text: str) -> None:
        self.faults.append(text)

    def _on_console(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self._fault(f"console {message.type}: {message.text} ({message.location.get('url', '')})")

    def _on_request(self, request: Request) -> None:
        self.requested.append(request.url)
        if not request.url.startswith(LOCAL) and _origin(request.url) != self.origin:
            self._fault(f"left the daemon: {request.method} {request.url}")

    def _on_request_failed(self, request: Request) -> None:
        if request.failure not in LEFT:
            self._fault(f"failed: {request.method} {request.url}: {request.failure}")

    def _on_response(self, response: Response) -> None:
        if response.status >= 400:
            self._fault(f"status {response.status}: {response.request.method} {response.url}")

    def _on_dialog(self, dialog: Dialog) -> None:
        self._fault(f"dialog: {dialog.type} {dialog.message}")
        dialog.dismiss()


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"
