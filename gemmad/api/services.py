"""What the routes need of the rest of the daemon, as values and callables. `daemon.run` builds it once."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from msgspec import Struct

from gemmad.api.dashboard.sessions import Sessions
from gemmad.api.dashboard.watched import Watched
from gemmad.config.keyring import Keyring
from gemmad.config.models import usual_names
from gemmad.config.schema import AuthSection, MediaSection, ModelSection, SamplingSection, ServerSection
from gemmad.dispatch.dispatcher import Dispatcher
from gemmad.errors import UnavailableError, UnknownModelError
from gemmad.grammar.spec import Spec
from gemmad.media.pool import MediaPool
from gemmad.metrics import Metrics
from gemmad.supervisor.wishes import WorkerStatus
from gemmad.text.checkpoint import TextModel
from gemmad.tracing.tracer import Tracer

LOADING_RETRY_SECONDS = 2.0
NO_MODEL_RETRY_SECONDS = 30.0
"""Somebody has to fetch it first."""


class Compiling(Protocol):
    """The grammar room, as far as it is needed here."""

    async def compile(self, spec: Spec, *, param: str) -> str: ...


class Trouble(Struct, frozen=True):
    """Why there is no model, for whoever can mend it."""

    reason: str
    """Which file, and what is wrong with it."""
    remedy: str
    """What to do; a command where there is one. It names no folder: clients are told it, too."""


class Served(Struct, frozen=True):
    """What the checkpoint brought; there once its tokenizer is loaded."""

    text: TextModel
    media: MediaPool | None
    """None for a checkpoint that takes no images."""
    grammars: Compiling | None = None
    """None: replies cannot be held to anything."""


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
    trouble: Callable[[], Trouble | None] = lambda: None
    """Why nothing is served, once that is known; it is over when the model is there."""
    folder_of: Callable[[Path], Path] = Path.absolute
    """Where the model lies that `model.path` names."""
    auth: Callable[[], AuthSection] = AuthSection
    keyring: Callable[[], Keyring] = Keyring
    """Without any key in it nobody needs one."""
    exposed: bool = False
    """Whether other machines can reach the address that is listened on."""
    watched: Watched = field(default_factory=Watched)
    """What has been measured while it serves."""
    sessions: Sessions = field(default_factory=Sessions)
    """Of the dashboard."""
    tracer: Tracer | None = None
    """None: nobody wants spans."""
    clock: Callable[[], float] = time.monotonic
    started_at: int = field(default_factory=lambda: int(time.time()))
    """Seconds since the epoch, told as the time that the model was made available."""

    def ready(self) -> Served:
        """What is served. Raises UnavailableError while it is still being read, or not there."""
        served = self.served()
        if served is not None:
            return served
        trouble = self.trouble()
        if trouble is None:
            raise UnavailableError("The model is loading.", retry_after_seconds=LOADING_RETRY_SECONDS)
        raise UnavailableError(
            f"There is no model to answer with. On the server: {trouble.remedy}.",
            retry_after_seconds=NO_MODEL_RETRY_SECONDS,
        )

    def devices(self) -> dict[str, str]:
        """Where each worker computes, by its name: a GPU's UUID, or `cpu`."""
        return {worker.name: worker.gpu or worker.device for worker in self.workers()}

    def names(self) -> tuple[str, ...]:
        """Names that clients may ask for; the first is the one reported."""
        section = self.model()
        if section.served_names:
            return section.served_names
        return usual_names(section.path) if section.path else ()

    def checkpoint(self) -> Path | None:
        """The folder of what is served, or waited for."""
        path = self.model().path
        return None if path is None else self.folder_of(path)

    def model_name(self, asked: str) -> str:
        """The name as it is reported. Raises UnknownModelError."""
        if asked not in self.names():
            raise UnknownModelError(asked)
        return asked
