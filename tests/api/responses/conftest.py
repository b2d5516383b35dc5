"""What the tests of responses show the model."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator

import httpx
import pytest
from PIL import Image, ImageDraw

from tests.api.stage import Stage


@pytest.fixture(scope="session")
def red_circle() -> str:
    """A picture, as a data URL."""
    image = Image.new("RGB", (64, 64), "white")
    ImageDraw.Draw(image).ellipse((8, 8, 56, 56), fill="red")
    file = io.BytesIO()
    image.save(file, "PNG")
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"


@pytest.fixture
def http(stage: Stage) -> Iterator[httpx.Client]:
    """As the SDK's client asks, for whom responses are stored."""
    with httpx.Client(base_url=stage.url, timeout=20, headers={"authorization": "Bearer none"}) as http:
        yield http
