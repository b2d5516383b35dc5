"""One picture that someone waits for."""

from __future__ import annotations

import asyncio

from gemmad.errors import GemmadError
from gemmad.logs import bound_fields
from gemmad.media.pixels import Pixels


class Task:
    """A picture to make ready, from admission to its one answer. Answers after the first are given back."""

    def __init__(self, number: int, url: str, *, param: str, fetches: bool) -> None:
        self.number = number
        self.url = url
        self.param = param
        self.fetches = fetches
        self.bound = bound_fields()
        """For log lines: the request whose picture it is."""
        self.has_started = False
        self._future: asyncio.Future[Pixels] = asyncio.get_running_loop().create_future()

    async def answer(self) -> Pixels:
        """The picture, or what went wrong. Cancelled, it owns nothing, also if the picture came in that very moment."""
        try:
            return await self._future
        except asyncio.CancelledError:
            if not self._future.cancelled() and self._future.exception() is None:
                self._future.result().close()
            raise

    def settle(self, pixels: Pixels) -> None:
        """Answer with a picture; one that nobody waits for any more is closed."""
        if self._future.done():
            pixels.close()
        else:
            self._future.set_result(pixels)

    def fail(self, error: GemmadError) -> None:
        """Answer with an error, unless there was an answer."""
        if not self._future.done():
            self._future.set_exception(error)
