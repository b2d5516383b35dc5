from __future__ import annotations

import asyncio

import pytest
from starlette.datastructures import Headers

from gemmad.api.asks import ImageAsked
from gemmad.api.images import prepare_images
from gemmad.api.record import new_record
from gemmad.errors import InvalidRequestError
from gemmad.media.pixels import Pixels, digest_of, seal

DATA = bytes(12)


class Preparing:
    """Prepares an image when its URL's event is set; `bad` is refused at once."""

    def __init__(self) -> None:
        self.made: list[Pixels] = []
        self.cancelled: list[str] = []
        self.let = asyncio.Event()

    async def prepare(self, url: str, *, param: str) -> Pixels:
        if url == "bad":
            raise InvalidRequestError("no image", param=param)
        try:
            if url == "slow":
                await self.let.wait()
        except asyncio.CancelledError:
            self.cancelled.append(url)
            raise
        self.made.append(Pixels(seal(DATA), digest=digest_of(DATA, height=2, width=2), height=2, width=2))
        return self.made[-1]


def asked(*urls: str) -> list[ImageAsked]:
    return [ImageAsked(url, f"images[{index}]") for index, url in enumerate(urls)]


def test_pixels_in_order() -> None:
    """Images are prepared at once and come back in their order."""

    async def prepare() -> None:
        pool = Preparing()
        asyncio.get_running_loop().call_later(0.01, pool.let.set)
        record = new_record(Headers(), method="POST", path="/", began=0.0)
        pixels = await prepare_images(pool, asked("slow", "quick"), record)
        assert [pool.made.index(one) for one in pixels] == [1, 0]
        for one in pixels:
            one.close()

    asyncio.run(prepare())


def test_one_failure_ends_all() -> None:
    """When one image fails the others are given up, what was made is closed, and the error is its own."""

    async def prepare() -> None:
        pool = Preparing()
        with pytest.raises(InvalidRequestError) as caught:
            await prepare_images(
                pool, asked("quick", "slow", "bad"), new_record(Headers(), method="POST", path="/", began=0.0)
            )
        assert caught.value.param == "images[2]"
        assert pool.cancelled == ["slow"]
        assert [one.fd for one in pool.made] == [-1]

    asyncio.run(prepare())


def test_a_client_that_leaves() -> None:
    """Cancelled, it leaves no descriptor open."""

    async def prepare() -> None:
        pool = Preparing()
        task = asyncio.create_task(
            prepare_images(pool, asked("quick", "slow"), new_record(Headers(), method="POST", path="/", began=0.0))
        )
        while not pool.made:
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert [one.fd for one in pool.made] == [-1]

    asyncio.run(prepare())
