"""The official SDK, which refuses what its own types do not allow."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from anthropic import Anthropic

from tests.api.stage import Stage


@pytest.fixture
def claude(stage: Stage) -> Iterator[Anthropic]:
    """It does not retry."""
    with Anthropic(base_url=stage.url, api_key="none", max_retries=0, _strict_response_validation=True) as claude:
        yield claude
