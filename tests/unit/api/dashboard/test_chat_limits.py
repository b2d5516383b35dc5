"""What the chat page says of the server."""

from __future__ import annotations

import re

from gemmad.api.dashboard.pages import FOLDER
from gemmad.api.openai.schema import MAX_STOPS
from gemmad.config.schema import MediaSection

CHAT = FOLDER / "chat"


def test_limits() -> None:
    """What the page tells of limits is what the server has unless it is told otherwise."""
    script = (CHAT / "picture.js").read_text()
    media = MediaSection()
    assert _constant(script, "MOST_PICTURES") == media.max_images
    assert _constant(script, "MOST_BYTES") == media.max_bytes
    assert _constant(script, "MOST_PIXELS") == media.max_pixels
    stop = re.search(r'name: "stop".*?most: (\d+)', (CHAT / "parameters.js").read_text(), re.DOTALL)
    assert stop is not None
    assert int(stop[1]) == MAX_STOPS


def _constant(script: str, name: str) -> int:
    found = re.search(rf"const {name} = ([\d_ *]+);", script)
    assert found is not None
    product = 1
    for factor in found[1].split("*"):
        product *= int(factor)
    return product
