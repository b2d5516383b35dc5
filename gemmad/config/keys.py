"""The schema as a flat list of keys, and what lies between two configs."""

from __future__ import annotations

import functools
import types
import typing
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from msgspec import Struct

from gemmad.config.quantities import Bytes, Seconds, TimeOfDay
from gemmad.config.schema import Config, Section, When


class Key(Struct, frozen=True):
    """One setting: `server.port`."""

    section: str
    name: str
    type_words: str
    """What to write, for a reader: `integer`, `size`, `"auto" or "cpu"`."""
    default: Any
    doc: str
    when: When
    is_path: bool

    @property
    def dotted(self) -> str:
        """As errors, flags and `config show` name it."""
        return f"{self.section}.{self.name}"

    @property
    def variable(self) -> str:
        """The environment variable that sets it."""
        return f"GEMMAD_{self.section}__{self.name}".upper()


class Change(Struct, frozen=True):
    """One key that differs between two configs, and when the new value takes effect."""

    key: str
    old: Any
    new: Any
    when: When


@functools.cache
def sections() -> dict[str, type[Section]]:
    """Every section's class, in the file's order."""
    found: dict[str, type[Section]] = {}
    for name, field in Config.model_fields.items():
        assert isinstance(field.annotation, type)
        assert issubclass(field.annotation, Section)
        found[name] = field.annotation
    return found


@functools.cache
def keys() -> tuple[Key, ...]:
    """Every key, in the file's order."""
    return tuple(key for section, kind in sections().items() for key in _keys_of(section, kind))


@functools.cache
def keys_by_name() -> dict[str, Key]:
    """Every key by its dotted name."""
    return {key.dotted: key for key in keys()}


def value_of(config: Config, key: Key) -> Any:
    """The value that `config` has for `key`."""
    return getattr(getattr(config, key.section), key.name)


def changes(old: Config, new: Config) -> tuple[Change, ...]:
    """Keys whose values differ, in the file's order."""
    pairs = ((key, value_of(old, key), value_of(new, key)) for key in keys())
    return tuple(Change(key.dotted, before, after, key.when) for key, before, after in pairs if before != after)


def with_keys(running: Config, wanted: Config, *, when: When) -> Config:
    """`running`, with the values that `wanted` has for every key of this class. The other keys stay as they run."""
    updates: dict[str, Section] = {}
    for section in sections():
        taken = {key.name: value_of(wanted, key) for key in keys() if key.section == section and key.when == when}
        updates[section] = getattr(running, section).model_copy(update=taken)
    return running.model_copy(update=updates)


def with_changes(running: Config, wanted: Sequence[Change]) -> Config:
    """`running`, with the new values of these."""
    updates: dict[str, dict[str, Any]] = {}
    for change in wanted:
        key = keys_by_name()[change.key]
        updates.setdefault(key.section, {})[key.name] = change.new
    sections = {name: getattr(running, name).model_copy(update=values) for name, values in updates.items()}
    return running.model_copy(update=sections)


def _keys_of(section: str, kind: type[Section]) -> list[Key]:
    annotations = typing.get_type_hints(kind, include_extras=True)
    found = []
    for name, field in kind.model_fields.items():
        extra = field.json_schema_extra
        assert isinstance(extra, dict), f"{section}.{name} is not made by setting()"
        found.append(
            Key(
                section=section,
                name=name,
                type_words=_type_words(annotations[name]),
                default=field.default,
                doc=field.description or "",
                when=typing.cast("When", extra["when"]),
                is_path=Path in (annotations[name], *typing.get_args(annotations[name])),
            )
        )
    return found


_WORDS: dict[Any, str] = {
    Bytes: "size",
    Seconds: "duration",
    TimeOfDay: "HH:MM",
    int: "integer",
    float: "number",
    bool: "boolean",
    str: "text",
    Path: "path",
}


def _type_words(annotation: Any) -> str:
    if annotation in _WORDS:
        return _WORDS[annotation]
    origin, args = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Literal:
        return " or ".join(f'"{value}"' for value in args)
    if origin in (types.UnionType, typing.Union):
        return " or ".join(_type_words(arg) for arg in args if arg is not types.NoneType)
    if origin is tuple:
        return f"list of {_type_words(args[0])}"
    if origin is typing.Annotated:
        return _type_words(args[0])
    raise TypeError(f"no words for {annotation}")
