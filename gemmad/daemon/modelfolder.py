"""The model's folder, which may be missing or broken: the daemon says so, stays up, and looks until it can be read.

What is looked at is names, sizes and times of the files that a checkpoint consists of. A folder that is being filled is
left alone until it has been the same for a while; `gemmad pull` renames a whole one into its place.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Awaitable, Callable
from pathlib import Path

from msgspec import Struct

from gemmad import logs
from gemmad.api.services import Trouble
from gemmad.config.models import name_in
from gemmad.config.schema import ModelSection
from gemmad.errors import CheckpointError, ConfigError
from gemmad.hub.files import REQUIRED
from gemmad.media.spec import ImageSpec
from gemmad.planning.gguf import SUFFIX, find_gguf, missing_beside
from gemmad.text.checkpoint import TextModel
from gemmad.text.files import read_model_config

LOOK_SECONDS = 0.5
LOOK_LIMIT_SECONDS = 5.0
"""What the pause between two looks grows to."""
SETTLE_SECONDS = 1.0

log = logs.get_logger(__name__)

Fingerprint = tuple[tuple[str, int, int, int], ...]
"""Path, inode, size and time of change of each file; empty for a folder that is not there."""


class Reading(Struct, frozen=True):
    """What the daemon has read of a checkpoint that it can use."""

    folder: Path
    text: TextModel
    images: ImageSpec | None


class ModelFolder:
    """One task calls `read` and `until_changed`, in turns; anybody may look at `trouble` and wait for `plausible`."""

    def __init__(
        self,
        section: Callable[[], ModelSection],
        *,
        folder_of: Callable[[Path], Path],
        settle_seconds: float = SETTLE_SECONDS,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.trouble: Trouble | None = None
        """Why it could not be read; None while nothing is known against it."""
        self.plausible = asyncio.Event()
        """It looks like a checkpoint, so that workers may begin with it."""
        self._section = section
        self._folder_of = folder_of
        self._settle_seconds = settle_seconds
        self._sleep = sleep
        self._seen: Fingerprint = ()
        self._begun: Fingerprint | None = None
        """What there was when it was first plausible, or last read."""

    async def read(self) -> tuple[Reading, bool]:
        """What there is, as soon as it can be read, and whether it is other than what workers may have begun with.
        Raises ConfigError if no model is set."""
        while True:
            path = self._section().path
            if path is None:
                raise ConfigError("model.path: no model is set")
            self._seen = await asyncio.to_thread(self._look)
            try:
                reading = await self._read(path)
            except CheckpointError as error:
                self._tell(path, error)
                await self._change()
            else:
                if self.trouble is not None:
                    log.info("model is there", folder=str(reading.folder))
                is_other, self._begun = self._begun != self._seen, self._seen
                self.trouble = None
                return reading, is_other

    async def until_changed(self, *, is_broken: Callable[[], bool]) -> None:
        """Return once the folder has changed since it was read, at a moment at which nobody can use what it was."""
        while True:
            await self._sleep(LOOK_LIMIT_SECONDS if not is_broken() else LOOK_SECONDS)
            if is_broken() and await asyncio.to_thread(self._look) != self._seen:
                await self._settled()
                return

    async def _read(self, path: Path) -> Reading:
        folder, template = self._folder_of(path), self._section().chat_template
        await asyncio.to_thread(require_checkpoint, folder)
        if not self.plausible.is_set():
            self._begun = self._seen
            self.plausible.set()
        text = await asyncio.to_thread(TextModel.load, folder, chat_template=template)
        return Reading(folder, text, ImageSpec.load(folder) if text.image_tokens is not None else None)

    async def _change(self) -> None:
        """Wait until it is another than the one that was seen, and stays so."""
        pause = LOOK_SECONDS
        while await asyncio.to_thread(self._look) == self._seen:
            await self._sleep(pause)
            pause = min(pause * 1.5, LOOK_LIMIT_SECONDS)
        await self._settled()

    async def _settled(self) -> None:
        before: Fingerprint | None = None
        while (now := await asyncio.to_thread(self._look)) != before:
            before = now
            await self._sleep(self._settle_seconds)

    def _look(self) -> Fingerprint:
        section = self._section()
        if section.path is None:
            return ()
        extra = () if section.chat_template is None else (section.chat_template,)
        return fingerprint(self._folder_of(section.path), *extra)

    def _tell(self, path: Path, error: CheckpointError) -> None:
        folder = self._folder_of(path)
        self.trouble = trouble(path, folder, str(error))
        log.error("no model", reason=self.trouble.reason, remedy=self.trouble.remedy)


def require_checkpoint(folder: Path) -> None:
    """A quick look at whether this can be a checkpoint. Raises CheckpointError."""
    if not folder.is_dir():
        raise CheckpointError(f"{folder}: no such folder")
    files = find_gguf(folder)
    if files is not None and (problem := missing_beside(folder, files, REQUIRED)) is not None:
        raise CheckpointError(problem)
    read_model_config(folder)
    for name in REQUIRED:
        if not (folder / name).is_file():
            raise CheckpointError(f"{folder / name}: missing")
    if files is None and not any(folder.glob("*.safetensors")):
        raise CheckpointError(f"{folder}: no weights: there is no *.safetensors file, and no *.gguf")


def fingerprint(folder: Path, *others: Path) -> Fingerprint:
    """What changes when somebody mends the checkpoint, and when nobody does not."""
    with contextlib.suppress(OSError):
        others = (*sorted(path for path in folder.iterdir() if path.suffix in _SUFFIXES), *others)
    found = []
    for path in others:
        with contextlib.suppress(OSError):
            told = os.stat(path)
            found.append((str(path), told.st_ino, told.st_size, told.st_mtime_ns))
    return tuple(found)


def trouble(path: Path, folder: Path, reason: str) -> Trouble:
    """What is wrong with the model that `model.path` names, and what mends it."""
    name = name_in(path)
    if name is None:
        if folder.is_dir():
            return Trouble(reason, "mend the model's folder, which is looked at again whenever it changes")
        return Trouble(reason, "`gemmad pull google/gemma-3-4b-it`, and put that name into model.path")
    if folder.is_dir():
        return Trouble(reason, f"`gemmad pull --verify {name}`")
    return Trouble(f"{name} is not here: there is no {folder}", f"`gemmad pull {name}`")


_SUFFIXES = frozenset({".json", ".jinja", ".safetensors", SUFFIX})
