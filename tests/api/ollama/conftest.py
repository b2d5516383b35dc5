"""Ollama's own package."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from ollama import Client

from tests.api.stage import Stage


@pytest.fixture
def ollama(stage: Stage) -> Iterator[Client]:
    client = Client(host=stage.url, timeout=20)
    yield client
    client._client.close()
