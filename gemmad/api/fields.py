"""Fields of a request in tables: what is honoured, what is ignored, what is refused and why. For dialects to fill in.

A refused field would change the reply and cannot: a value that asks for nothing is accepted, any other is a 400 that
names the field. Fields that are in no table are accepted and ignored, because new SDKs send new fields.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from gemmad.api.openai.parameters import Parameter
from gemmad.errors import InvalidRequestError


def honoured(name: str, note: str) -> Parameter:
    """It does what its dialect says."""
    return Parameter(name, "honoured", note)


def ignored(name: str, note: str) -> Parameter:
    """It changes nothing in the reply; `note` says why it need not."""
    return Parameter(name, "ignored", note)


def refused(name: str, note: str, neutral: Callable[[Any], bool] = lambda _value: False) -> Parameter:
    """`neutral` tells which values ask for nothing; null never does."""
    return Parameter(name, "refused", note, neutral)


def is_empty(value: Any) -> bool:
    """An empty list, object or string."""
    return value in ([], {}, "")


def asked_for(table: Iterable[Parameter], fields: Mapping[str, Any], *, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Path and note of each refused field that asks for something."""
    for parameter in table:
        value = fields.get(parameter.name)
        if parameter.handling == "refused" and value is not None and not parameter.neutral(value):
            yield f"{prefix}{parameter.name}", parameter.note


def refusal(param: str, what: str, *, code: str = "unsupported_parameter") -> InvalidRequestError:
    """A field or a value that is known and not served."""
    return InvalidRequestError(f"Unsupported parameter: '{param}' {what}.", param=param, code=code)


def json_text(value: Any, *, param: str) -> str:
    """A decoded value as JSON text, keys in the client's order, spaced as models write it.

    Raises InvalidRequestError for a number too large.
    """
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False)
    except ValueError:
        raise InvalidRequestError(
            f"Invalid value for '{param}': a number in it is too large.", param=param, code="invalid_value"
        ) from None
