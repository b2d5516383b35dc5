from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from gemmad.config.keyring import Keyring, parse_keyring
from tests.api.stage import Stage

KEY, ADMIN = "sk-alices-own-key", "sk-the-operator"


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


@pytest.fixture
def guarded(stage: Stage) -> Iterator[Stage]:
    """Alice has a key, and so has an operator."""
    stage.keyring = parse_keyring(f"alice:{KEY}\n".encode(), path=Path("keys"))
    stage.keyring |= parse_keyring(f"op:{ADMIN}\n".encode(), path=Path("keys"), admin=True)
    yield stage
    stage.keyring = Keyring()


@pytest.fixture
def token(stage: Stage) -> str:
    """Of a session."""
    return stage.call(lambda: stage.services.sessions.begin(uid=1000))[0]


@pytest.fixture
def browser(stage: Stage) -> Iterator[httpx.Client]:
    """Sends what a browser sends when its user opens an address."""
    headers = {"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", "Sec-Fetch-Site": "none"}
    with httpx.Client(base_url=stage.url, timeout=20, headers=headers) as http:
        yield http
