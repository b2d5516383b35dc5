from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import gemmad.demo
from gemmad.config.models import ModelName
from gemmad.hub.pull import Pull, free_bytes
from gemmad.hub.remote import Hub
from gemmad.hub.store import Store
from gemmad.hub.token import Token
from tests.fakes.hub import FakeHub, fake_hub, files_of

CHECKPOINT = Path(gemmad.demo.__file__).parent / "checkpoint"
NAME = ModelName("google/gemma-3-demo")

Puller = Callable[..., Pull]


@pytest.fixture
def hub() -> Iterator[FakeHub]:
    """A hub that has the bundled model, and files beside it that nobody needs."""
    extra = {"README.md": b"# Gemma", "pytorch_model.bin": b"pickle", "tokenizer.model": b"sentencepiece"}
    with fake_hub(NAME.repo, files_of(CHECKPOINT) | extra) as served:
        yield served


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """An empty one."""
    return Store(tmp_path / "state" / "models")


@pytest.fixture
def puller(hub: FakeHub, store: Store) -> Iterator[Puller]:
    """Makes pulls from that hub into that store, which wait for nothing."""
    opened: list[Hub] = []

    def make(
        name: ModelName = NAME,
        *,
        token: str | None = None,
        free: Callable[[Path], int] = free_bytes,
        pause: Callable[[float], None] = lambda _seconds: None,
    ) -> Pull:
        client = Hub(token=None if token is None else Token(token, "HF_TOKEN"), endpoint=hub.url)
        opened.append(client)
        return Pull(name, store=store, hub=client, free=free, pause=pause)

    yield make
    for client in opened:
        client.__exit__(None, None, None)
