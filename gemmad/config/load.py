"""From file, environment and command line to one frozen Config, or to all the errors at once.

A flag wins over `GEMMAD_SECTION__KEY`, that over the files in `conf.d`, a later over an earlier one, those over the
file beside it, that over the default. Names with a single underscore are
not settings: Kubernetes sets GEMMAD_PORT for a Service called gemmad.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from msgspec import Struct
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from gemmad.config.files import config_files, file_digest, joint_digest, read_file
from gemmad.config.keys import keys, keys_by_name, sections
from gemmad.config.lines import KeyPath, key_lines, line_of
from gemmad.config.models import is_name_at
from gemmad.config.paths import SYSTEM_CONFIG_DIR, find_paths
from gemmad.config.schema import Config
from gemmad.errors import ConfigError

FILE_NAME = "gemmad.toml"
_SHOWN_VALUE_CHARACTERS = 60
_FIRST = (-1, 0)
"""Before what is wrong in files."""

Origin = Literal["flag", "environment", "file", "default"]


class Sources(Struct, frozen=True):
    """What a config was read from, so that it can be read again."""

    path: Path | None
    env: Mapping[str, str]
    overrides: Mapping[str, Any]


class Loaded(Struct, frozen=True):
    """A config, and where it comes from."""

    config: Config
    path: Path | None
    """The file, or None when there is none."""
    digest: bytes
    """Of the file and those in `conf.d`, as `config_digest` makes it."""
    origins: Mapping[str, Origin]
    """For each dotted key, who set it."""
    places: Mapping[str, str]
    """For each dotted key that a file has set: file:line."""
    sources: Sources

    def again(self) -> Loaded:
        """Read the same sources once more. Raises ConfigError."""
        return load_config(self.sources.path, env=self.sources.env, overrides=self.sources.overrides)


def load_config(path: Path | None, *, env: Mapping[str, str], overrides: Mapping[str, Any]) -> Loaded:
    """Read the config. `path` None looks for the file; `overrides` are the flags by dotted key, None means not given.

    Raises ConfigError with one line for each error: `file:line: section.key: why`.
    """
    file = path.absolute() if path is not None else find_config(env)
    flags = {name: value for name, value in overrides.items() if value is not None}
    reading = _Reading()
    digest = file_digest(b"") if file is None else reading.add_files(file)
    reading.add_environment(env)
    reading.add_flags(flags)
    config = reading.finish()
    origins = {key.dotted: reading.origins.get((key.section, key.name), "default") for key in keys()}
    places = {key.dotted: reading.place((key.section, key.name)) for key in keys() if origins[key.dotted] == "file"}
    return Loaded(config, file, digest, origins, places, Sources(file, dict(env), flags))


def find_config(env: Mapping[str, str]) -> Path | None:
    """The file to read when none is named; None when there is none anywhere. One in $GEMMAD_CONFIG must exist."""
    named = env.get("GEMMAD_CONFIG", "")
    if named:
        return Path(named).absolute()
    return next((path for path in config_candidates(env) if path.exists()), None)


def config_candidates(env: Mapping[str, str]) -> tuple[Path, ...]:
    """Where the file is looked for, in this order."""
    paths = find_paths(env)
    folders = [paths.config_dir]
    if not paths.config_is_chosen and SYSTEM_CONFIG_DIR not in folders:
        folders.append(SYSTEM_CONFIG_DIR)
    return tuple(folder / FILE_NAME for folder in folders)


class _Reading:
    """Values gathered from the lowest rank to the highest, and what was wrong with them."""

    def __init__(self) -> None:
        self.origins: dict[KeyPath, Origin] = {}
        self._files: list[tuple[Path, Mapping[KeyPath, int]]] = []
        """Those that are TOML, with the lines of their keys."""
        self._set_in: dict[KeyPath, int] = {}
        """Which of them has set a key, or a section as a whole."""
        self._values: dict[str, Any] = {}
        self._errors: list[tuple[tuple[int, int], str]] = []
        """With what they are ordered by: the file's number and the line."""

    def add_files(self, path: Path) -> bytes:
        """The file and what lies beside it; the digest of them all."""
        try:
            files = config_files(path)
        except ConfigError as error:
            self._errors.append((_FIRST, str(error)))
            files = (path,)
        return joint_digest({file: self._add_file(file) for file in files})

    def _add_file(self, path: Path) -> bytes:
        number, digest = len(self._files), b""
        try:
            data = read_file(path)
            digest = file_digest(data)
            text, content = _parse(path, data)
        except ConfigError as error:
            self._errors.append(((number, 0), str(error)))
            return digest
        self._files.append((path, key_lines(text)))
        for section, table in content.items():
            self._set_in[(section,)] = number
            if not isinstance(table, dict):
                self._values[section] = table  # the schema says what is wrong with it
                continue
            self._values.setdefault(section, {})
            for name, value in table.items():
                self._put(section, name, _absolute(section, name, value, path.parent), "file")
                self._set_in[section, name] = number
        return digest

    def add_environment(self, env: Mapping[str, str]) -> None:
        known = {key.variable: key for key in keys()}
        for variable, text in sorted(env.items()):
            if not variable.startswith("GEMMAD_") or "__" not in variable or not text:
                continue
            key = known.get(variable)
            if key is None:
                self._errors.append(
                    (_FIRST, f"environment: {variable}: unknown setting{_suggest(_closest(variable, known))}")
                )
                continue
            value = _absolute(key.section, key.name, _from_text(text), Path.cwd())
            self._put(key.section, key.name, value, "environment")

    def add_flags(self, flags: Mapping[str, Any]) -> None:
        for dotted, value in flags.items():
            key = keys_by_name()[dotted]  # a flag that sets no key is our own mistake
            self._put(key.section, key.name, _absolute(key.section, key.name, value, Path.cwd()), "flag")

    def finish(self) -> Config:
        """The config. Raises ConfigError with everything that is wrong."""
        config = None
        try:
            config = Config.model_validate(self._values)
        except ValidationError as error:
            self._errors.extend(self._located(error))
        if config is None or self._errors:
            raise ConfigError("\n".join(line for _, line in sorted(self._errors)))
        return config

    def place(self, path: KeyPath) -> str:
        """file:line, for what a file has set."""
        return self._in_file(path)[1]

    def _put(self, section: str, name: str, value: Any, origin: Origin) -> None:
        table = self._values.setdefault(section, {})
        if not isinstance(table, dict):
            return  # the file has a value where this table belongs, and that is an error already
        table[name] = value
        self.origins[section, name] = origin

    def _located(self, error: ValidationError) -> Iterator[tuple[tuple[int, int], str]]:
        told = set()  # every member of a union complains
        for detail in error.errors(include_url=False):
            shown, path = _key_of(detail["loc"])
            if shown not in told:
                told.add(shown)
                order, where = self._where(path)
                yield order, f"{where}: {shown}: {_reason(detail, path)}"

    def _where(self, path: KeyPath) -> tuple[tuple[int, int], str]:
        origin = self.origins.get(path[:2], "file")
        if origin == "flag":
            return _FIRST, "command line"
        if origin == "environment":
            return _FIRST, f"environment: {keys_by_name()['.'.join(path[:2])].variable}"
        return self._in_file(path)

    def _in_file(self, path: KeyPath) -> tuple[tuple[int, int], str]:
        number = self._set_in.get(path[:2], self._set_in.get(path[:1]))
        if number is None:
            return _FIRST, "configuration"
        file, lines = self._files[number]
        line = line_of(lines, path) or 0
        return (number, line), f"{file}:{line}" if line else f"{file}"


def _parse(path: Path, data: bytes) -> tuple[str, dict[str, Any]]:
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{path}:{line}: is not UTF-8 text") from error
    try:
        return text, tomllib.loads(text)
    except ValueError as error:  # TOMLDecodeError, and a number of too many digits
        raise ConfigError(_syntax_error(path, text, str(error))) from error
    except RecursionError as error:
        raise ConfigError(f"{path}: is nested too deeply") from error


def _syntax_error(path: Path, text: str, message: str) -> str:
    match = re.search(r"^(.*) \(at (?:line (\d+), column (\d+)|end of document)\)$", message, re.DOTALL)
    if match is None:
        return f"{path}: {message}"
    line = match[2] or text.rstrip("\n").count("\n") + 1
    column = f", column {match[3]}" if match[3] else ", at the end"
    return f"{path}:{line}: not TOML: {match[1]}{column}"


def _from_text(text: str) -> Any:
    """A list, table or quoted text as TOML writes it; all else stays text, which the schema converts."""
    try:
        parsed = tomllib.loads(f"value = {text}")
    except (ValueError, RecursionError):
        return text
    value = parsed["value"]
    return value if len(parsed) == 1 and isinstance(value, list | dict | str) else text


def _absolute(section: str, name: str, value: Any, folder: Path) -> Any:
    """A relative path belongs to the folder of the file that has it (a service has no other), `~` to the user.

    A model's name stays as it is, and so does not begin with a slash.
    """
    key = keys_by_name().get(f"{section}.{name}")
    if key is None or not key.is_path or not isinstance(value, str | Path) or not str(value):
        return value
    if key.dotted == "model.path" and is_name_at(str(value), folder):
        return value
    try:
        return folder / Path(value).expanduser()
    except RuntimeError:  # no such user
        return value


def _key_of(location: tuple[int | str, ...]) -> tuple[str, KeyPath]:
    """How an error's key is shown, and its path in the file. Pydantic's location also names union members; they go."""
    path = tuple(str(part) for part in location[:2])
    index = f"[{location[2]}]" if len(location) == 3 and isinstance(location[2], int) else ""
    return ".".join(path) + index, path


_WRONG_KIND = re.compile(r".*_(type|parsing)|literal_error|int_from_float")


def _reason(detail: ErrorDetails, path: KeyPath) -> str:
    if detail["type"] == "extra_forbidden":
        return _unknown(path)
    if detail["type"] == "model_type":
        return f"must be a table, written [{path[0]}]"
    if _WRONG_KIND.fullmatch(detail["type"]):
        words = keys_by_name()[".".join(path)].type_words
        if isinstance(detail["loc"][-1], int):
            words = words.rpartition("list of ")[2]
        return f"expected {words}, got {_shown(detail['input'])}"
    message = detail["msg"].removeprefix("Value error, ")
    if not message.startswith("Input should be "):
        return message
    return f"must be {message.removeprefix('Input should be ')}, not {_shown(detail['input'])}"


def _unknown(path: KeyPath) -> str:
    name = path[-1]
    namesakes = [key.dotted for key in keys() if key.name == name]
    if len(path) == 1:
        return f"unknown section{_suggest(namesakes or _closest(name, sections()))}"
    near = [f"{path[0]}.{close}" for close in _closest(name, [key.name for key in keys() if key.section == path[0]])]
    return f"unknown key{_suggest(namesakes or near)}"


def _closest(given: str, known: Iterable[str]) -> list[str]:
    return difflib.get_close_matches(given, list(known), n=1)


def _suggest(names: Sequence[str]) -> str:
    return f"; did you mean {names[0]}?" if names else ""


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN_VALUE_CHARACTERS else text[: _SHOWN_VALUE_CHARACTERS - 1] + "…"
