"""A reply that is told at once, and what of it is whole."""

from __future__ import annotations

from collections.abc import Callable

from pydantic_core import from_json
from starlette.types import Receive

from gemmad.api.disconnect import unless_gone
from gemmad.api.errors import answer
from gemmad.api.pieces import Said
from gemmad.api.reply import Reply


async def hear_out(reply: Reply, receive: Receive, *, ended: Callable[[str | None], None]) -> list[Said]:
    """All choices, unless the client leaves first. The reply is closed, and `ended` told how: the code of the error
    that is raised, or None."""
    error: str | None = None
    try:
        return await unless_gone(receive, reply.whole())
    except Exception as failure:
        error = answer(failure).error.code
        raise
    finally:
        reply.close()
        ended(error)


def is_object(arguments: str) -> bool:
    """Whether a call's arguments are a whole JSON object; those of a call that was cut off are none. Empty is `{}`."""
    try:
        return isinstance(from_json(arguments or "{}"), dict)
    except ValueError:
        return False
