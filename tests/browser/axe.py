"""axe-core, the usual judge of whether a page can be used with a screen reader and with weak eyes."""

from __future__ import annotations

from typing import Any

from axe_playwright_python.base import AXE_SCRIPT
from playwright.sync_api import Page

_RUN = "() => axe.run(document, { resultTypes: ['violations'] })"


def faults(page: Page) -> list[str]:
    """What it finds on the page as it is now, one line for each element."""
    page.evaluate(AXE_SCRIPT)
    told: dict[str, Any] = page.evaluate(_RUN)
    return [
        f"{violation['impact']} {violation['id']}: {violation['help']}: {' '.join(map(str, node['target']))}"
        for violation in told["violations"]
        for node in violation["nodes"]
    ]
