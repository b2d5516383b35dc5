from __future__ import annotations

import asyncio
from typing import Any

import pytest

from gemmad.api.disconnect import unless_gone
from gemmad.api.errors import ClientGoneError


async def never() -> Any:
    return await asyncio.Future()


async def gone() -> dict[str, Any]:
    return {"type": "http.disconnect"}


def test_the_result_of_work() -> None:
    """With a client that stays the work's result, or error, is handed on, and nothing is left running."""

    async def work() -> str:
        await asyncio.sleep(0)
        return "done"

    async def fail() -> str:
        await asyncio.sleep(0)
        raise TimeoutError("its own")

    async def both() -> None:
        assert await unless_gone(never, work()) == "done"
        with pytest.raises(TimeoutError, match="its own"):
            await unless_gone(never, fail())
        await asyncio.sleep(0)
        assert len(asyncio.all_tasks()) == 1

    asyncio.run(both())


def test_a_client_that_leaves() -> None:
    """When the client leaves the work is cancelled."""
    cancelled = []

    async def work() -> None:
        try:
            await never()
        except asyncio.CancelledError:
            cancelled.append(True)
            raise

    async def leave() -> None:
        with pytest.raises(ClientGoneError):
            await unless_gone(gone, work())
        assert cancelled == [True]

    asyncio.run(leave())


def test_a_cancellation_from_outside() -> None:
    """Being cancelled is not mistaken for a client that left."""

    async def cancel() -> None:
        task = asyncio.create_task(unless_gone(never, never()))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancel())
