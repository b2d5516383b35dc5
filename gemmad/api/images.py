"""All images of a request at once."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import Protocol

from gemmad.api.asks import ImageAsked
from gemmad.api.record import Record
from gemmad.media.pixels import Pixels


class Preparing(Protocol):
    """The media pool, as far as it is needed here."""

    async def prepare(self, url: str, *, param: str) -> Pixels: ...


async def prepare_images(pool: Preparing, images: Sequence[ImageAsked], record: Record) -> tuple[Pixels, ...]:
    """Pixels in the images' order, the caller's to close. `record` learns how long each takes.

    When one cannot be had the others are given up and the first one's error is raised; nothing is left open.
    """
    made: dict[int, Pixels] = {}

    async def prepare(index: int, image: ImageAsked) -> None:
        with record.phase("image", source=_source(image.url)):
            made[index] = await pool.prepare(image.url, param=image.param)

    try:
        async with asyncio.TaskGroup() as group:
            for index, image in enumerate(images):
                group.create_task(prepare(index, image))
    except BaseExceptionGroup as failed:
        close_all(made.values())
        raise failed.exceptions[0] from None
    except BaseException:  # the client has left
        close_all(made.values())
        raise
    return tuple(made[index] for index in range(len(images)))


def _source(url: str) -> str:
    scheme = url[:6].partition(":")[0].lower()
    return scheme if scheme in ("data", "http", "https") else "other"


def close_all(pixels: Iterable[Pixels]) -> None:
    """Give their descriptors back."""
    for one in pixels:
        one.close()
