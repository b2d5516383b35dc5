"""On which line of a TOML text each key stands."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from typing import Any

KeyPath = tuple[str, ...]


def key_lines(text: str) -> dict[KeyPath, int]:
    """The line, from 1, where each table and each key of a valid TOML text begins.

    A statement (a header or one key with its value) is a TOML document by itself, so the text is cut into statements
    by asking the parser where each one ends: quoted or dotted keys and values over many lines need no rules here.
    """
    found: dict[KeyPath, int] = {}
    table: KeyPath = ()
    for first_line, content, is_header in _statements(text):
        if is_header:
            table = _header_path(content)
            found.setdefault(table, first_line)
            continue
        for path in _paths(content):
            found.setdefault(table + path, first_line)
    return found


def line_of(found: Mapping[KeyPath, int], path: KeyPath) -> int | None:
    """The line of the longest part of `path` that stands in the text."""
    for length in range(len(path), 0, -1):
        if path[:length] in found:
            return found[path[:length]]
    return None


def _statements(text: str) -> Iterator[tuple[int, dict[str, Any], bool]]:
    pending: list[str] = []
    first_line = 1
    for number, line in enumerate(text.replace("\r\n", "\n").split("\n"), start=1):
        if not pending:
            first_line = number
            if not line.strip() or line.lstrip().startswith("#"):
                continue
        pending.append(line)
        try:
            content = tomllib.loads("\n".join(pending))
        except tomllib.TOMLDecodeError:
            continue  # a value that goes on on the next line
        yield first_line, content, pending[0].lstrip().startswith("[")
        pending = []


def _header_path(content: Any) -> KeyPath:
    path: KeyPath = ()
    while content:
        if isinstance(content, list):  # [[array of tables]]
            content = content[0]
            continue
        ((name, content),) = content.items()
        path += (name,)
    return path


def _paths(content: Mapping[str, Any], above: KeyPath = ()) -> Iterator[KeyPath]:
    for name, value in content.items():
        yield (*above, name)
        if isinstance(value, dict):
            yield from _paths(value, (*above, name))
