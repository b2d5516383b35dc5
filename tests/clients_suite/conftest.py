"""A daemon for all of them. `GEMMAD_CLIENTS_URL=http://…` takes one that runs already."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from daemon import MODEL, serving


@pytest.fixture(scope="session")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where the bundled model is served, without `/v1`."""
    if running := os.environ.get("GEMMAD_CLIENTS_URL"):
        yield running
        return
    with serving(tmp_path_factory.mktemp("daemon"), "--demo") as url:
        yield url


@pytest.fixture(scope="session")
def base_url(url: str) -> str:
    """For what speaks OpenAI's API."""
    return f"{url}/v1"


@pytest.fixture(scope="session")
def model() -> str:
    """The bundled model's name."""
    return MODEL
