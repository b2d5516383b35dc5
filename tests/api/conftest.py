"""One HTTP side for all API tests; each test finds it as if it were new, and leaves nothing in it."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest
from openai import OpenAI

from tests.api.stage import Stage


@pytest.fixture(scope="session")
def running_stage() -> Iterator[Stage]:
    with Stage() as stage:
        yield stage


@pytest.fixture
def stage(running_stage: Stage) -> Iterator[Stage]:
    """A served model whose replies the test writes."""
    running_stage.reset()
    running_stage.say("Hello there.")
    yield running_stage
    running_stage.wait_until(running_stage.is_idle)


@pytest.fixture
def client(stage: Stage) -> Iterator[OpenAI]:
    """The official SDK."""
    with stage.client() as client:
        yield client


@pytest.fixture
def http(stage: Stage) -> Iterator[httpx.Client]:
    """For what the SDK would never send, and to see every byte."""
    with httpx.Client(base_url=stage.url, timeout=20, verify=False) as http:
        yield http
