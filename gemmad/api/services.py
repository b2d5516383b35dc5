"""What the routes need of the rest of the daemon, as values and callables. `daemon.run` builds it once."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from msgspec import Struct

from gemmad.config.schema import MediaSection, ModelSection, SamplingSection, ServerSection
from gemmad.dispatch.dispatcher import Dispatcher
from gemmad.errors import UnavailableError, UnknownModelError
from gemmad.media.pool import MediaPool
from gemmad.metrics import Metrics
from gemmad.supervisor.wishes import WorkerStatus
from gemmad.text.checkpoint import TextModel

LOADING_RETRY_SECONDS = 2.0


class Served(Struct, frozen=True):
    """What the checkpoint brought; there once its tokenizer is loaded."""

    text: TextModel
    media: MediaPool | None
    """None for a checkpoint that takes no images."""


@dataclass(frozen=True, kw_only=True)
class Services:
    """Sections are callables because settings change while requests run: ask at each decision, keep none."""

    version: str
    served: Callable[[], Served | None]
    """None while the checkpoint is being read."""
    dispatcher: Dispatcher
    workers: Callable[[], tuple[WorkerStatus, ...]]
    metrics: Metrics
    server: Callable[[], ServerSection]
    model: Callable[[], ModelSection]
    sampling: Callable[[], SamplingSection]
    media: Callable[[], MediaSection]
    max_context: Callable[[], int | None]
    """Longest prompt and reply together as far as it is known."""
    clock: Callable[[], float] = time.monotonic
    started_at: int = field(default_factory=lambda: int(time.time()))
    """Seconds since the epoch, told as the time that the model was made available."""

    def ready(self) -> Served:
        """What is served. Raises UnavailableError while it is still being read."""
        served = self.served()
        if served is None:
            raise UnavailableError("The model is loading.", retry_after_seconds=LOADING_RETRY_SECONDS)
        return served

    def names(self) -> tuple[str, ...]:
        """Names that clients may ask for; the first is the one reported."""
        section = self.model()
        if section.served_names:
            return section.served_names
        return (section.path.resolve().name,) if section.path else ()

    def model_name(self, asked: str) -> str:
        """The name as it is reported. Raises UnknownModelError."""
        if asked not in self.names():
            raise UnknownModelError(asked)
        return asked
