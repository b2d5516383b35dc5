"""Running the official SDK's asyncio client in plain tests."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")
PATIENCE_SECONDS = 60.0
QUIET_ROUNDS = 3
"""Closing one generator lets go of the next, whose task is made two rounds of the loop later."""


def run_async(work: Coroutine[Any, Any, T]) -> T:
    """The result of `work`, in a loop of its own.

    The SDK leaves a stream's inner generator to the garbage collector, which closes it in a task: that one is waited
    for; what does not end by itself is an error.
    """

    async def run() -> T:
        result = await work
        quiet = 0
        async with asyncio.timeout(PATIENCE_SECONDS):
            while quiet < QUIET_ROUNDS:
                gc.collect()
                await asyncio.sleep(0)
                others = asyncio.all_tasks() - {asyncio.current_task()}
                quiet = 0 if others else quiet + 1
                await asyncio.gather(*others)
        return result

    return asyncio.run(run())
