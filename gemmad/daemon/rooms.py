"""What the daemon itself has of a model: its text side, and processes that decode images and compile grammars."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from gemmad.api.services import Served
from gemmad.config.schema import Config
from gemmad.daemon.modelfolder import ModelFolder, Reading
from gemmad.grammar.room import GrammarRoom
from gemmad.media.pool import MediaPool


class Rooms:
    """Of the model that `model.path` means, as soon and as long as it can be read."""

    def __init__(self, model: ModelFolder, *, config: Callable[[], Config]) -> None:
        self._model = model
        self._config = config
        self._grammars: GrammarRoom | None = None
        self.served: Served | None = None
        """None while it is being read."""

    @property
    def sources(self) -> dict[str, MediaPool | GrammarRoom | None]:
        """By their names, for metrics."""
        return {"media": self.served.media if self.served else None, "grammar": self._grammars}

    async def run(self, *, changed: Callable[[], None], is_broken: Callable[[], bool]) -> None:
        """Read the text side of the checkpoint, then keep the processes; all over again when a checkpoint that no
        worker can load (`is_broken`) has changed, which `changed` is told. Raises ConfigError."""
        while True:
            reading, is_other = await self._model.read()
            self._open(reading)
            if is_other:
                changed()
            await self._keep(is_broken)
            self.served = None

    def close(self) -> None:
        """End the processes."""
        if self.served is not None and self.served.media is not None:
            self.served.media.close()
        if self._grammars is not None:
            self._grammars.close()

    def _open(self, model: Reading) -> None:
        config, media = self._config(), None
        if model.images is not None:
            media = MediaPool(
                model.images,
                section=lambda: self._config().media,
                processes=config.media.processes,
                memory_bytes=config.media.memory,
            )
        self._grammars = GrammarRoom(
            model.folder,
            vocab_size=model.text.vocab_size,
            stop_token_ids=model.text.stop_token_ids,
            section=lambda: self._config().grammar,
        )
        self.served = Served(model.text, media, self._grammars)

    async def _keep(self, is_broken: Callable[[], bool]) -> None:
        """Until another model than theirs is to be read."""
        assert self._grammars is not None
        assert self.served is not None
        async with asyncio.TaskGroup() as group:
            group.create_task(self._grammars.run())
            if self.served.media is not None:
                group.create_task(self.served.media.run())
            await self._model.until_changed(is_broken=is_broken)
            self.close()
