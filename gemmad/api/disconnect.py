"""Work that ends when its client leaves."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from starlette.types import Receive

from gemmad.api.errors import ClientGoneError

T = TypeVar("T")


async def unless_gone(receive: Receive, work: Awaitable[T]) -> T:
    """The result of `work`, which is cancelled when the client leaves first: then raises ClientGoneError.

    The body must have been read; nothing but the disconnect may be left to receive.
    """
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(None) as scope:
            watcher = loop.create_task(_watch(receive, lambda: scope.reschedule(loop.time())))
            try:
                return await work
            finally:
                watcher.cancel()
    except TimeoutError:
        if scope.expired():
            raise ClientGoneError("the client left before there was an answer") from None
        raise


async def _watch(receive: Receive, on_gone: Callable[[], None]) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    on_gone()
