"""Pages of the items that a response was made from. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from gemmad.api.openai.responses.items import Item
from gemmad.api.openai.responses.wire import ItemList
from gemmad.errors import InvalidRequestError

USUAL_LIMIT = 20
MAX_LIMIT = 100


def page(items: Sequence[Item], *, order: str, after: str | None, limit: int | None) -> ItemList:
    """Those after the item with the id `after`, in that order. Raises InvalidRequestError."""
    if order not in ("asc", "desc"):
        raise InvalidRequestError("Invalid value for 'order': expected 'asc' or 'desc'.", param="order")
    ordered = list(items) if order == "asc" else list(reversed(items))
    if after is not None:
        place = next((index for index, item in enumerate(ordered) if item.id == after), None)
        if place is None:
            raise InvalidRequestError(f"Item with id '{after[:128]}' not found.", param="after")
        ordered = ordered[place + 1 :]
    data = tuple(ordered[: limit or USUAL_LIMIT])
    first, last = (data[0].id, data[-1].id) if data else ("", "")
    return ItemList(data, first, last, has_more=len(data) < len(ordered))
