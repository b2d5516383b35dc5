"""The schema in words: the settings page of the docs, and a config as TOML."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from gemmad.config.keys import Key, keys, sections, value_of
from gemmad.config.schema import Config

_INTRODUCTION = """\
# Configuration

<!-- Made from gemmad/config/schema.py by `make docs`; a test holds the two equal. -->

One TOML file. It is taken from `--config FILE`, else from `$GEMMAD_CONFIG`, else from the first of these that exists:

1. `gemmad.toml` in `$GEMMAD_CONFIG_DIR` or in systemd's `$CONFIGURATION_DIRECTORY`; where one is set, only there
2. `~/.config/gemmad/gemmad.toml` (`$XDG_CONFIG_HOME`); for root `/etc/gemmad/gemmad.toml`
3. `/etc/gemmad/gemmad.toml`

Every key has a default, so the file may be missing or empty. A flag of `gemmad serve` wins over an environment variable
`GEMMAD_SECTION__KEY` (two underscores: `GEMMAD_SERVER__PORT=8000`), that wins over the file, and the file over the
default. An empty variable counts as not set; lists are written as in TOML: `GEMMAD_MODEL__SERVED_NAMES='["a", "b"]'`.

Files in `conf.d` beside the file (`/etc/gemmad/conf.d/*.toml`) are read after it, by name, and win over it, a later one
over an earlier one: key by key, but a list as a whole. Names that begin with a dot are left alone.

- `gemmad config check` prints every error of all of them, with file, line and key.
- `gemmad config show --origin` prints what a daemon that starts now would have, and who set it on which line.
- `gemmad config diff` prints what the files say and the running daemon does not have, and when it would.
- `gemmad config path` prints the file that is read.
- `gemmad config example` prints a file with every key in a comment ([packaging/gemmad.toml](../packaging/gemmad.toml)).
- `gemmad config schema` prints a JSON Schema for editors. With taplo: `#:schema gemmad.schema.json` in the first line.

A **size** is a number of bytes or text such as `"512MiB"`, `"2GiB"`, `"1GB"` (K, M, G and T alone are binary).
A **duration** is a number of seconds or text such as `"250ms"`, `"30s"`, `"1h30m"`.
**HH:MM** is a time of day such as `"04:00"`, on the clock of the daemon's time zone.
A relative **path** in the file belongs to the file's folder, in a flag or variable to the current one; `~` works.

The running daemon watches the file and the folder. *Takes effect* says when an edit does:

- **live**: at once. A request that runs keeps what it was admitted under.
- **recycle**: with new workers, while requests go on. One worker tries the new settings first; only if it gets ready
  the others follow, else all keep the old ones, and log and status say why
  ([more](control.md#a-changed-configuration)).
- **restart**: with the next start of the daemon, which logs it as pending.

An edit with an error changes nothing: the daemon goes on with what it has and logs what is wrong.
"""

MAY_BE_SECRET = frozenset({"monitor.webhook", "tracing.endpoint"})
"""Addresses that may have a secret behind their host."""

_KIBI = 1024


def settings_page() -> str:
    """`docs/configuration.md`."""
    parts = [_INTRODUCTION]
    for section, kind in sections().items():
        parts.append(f"\n## [{section}]\n\n{kind.__doc__}\n")
        parts.append("| key | type | default | takes effect | |\n|---|---|---|---|---|")
        parts.extend(_row(key) for key in keys() if key.section == section)
    return "\n".join(parts) + "\n"


def example_file() -> str:
    """A file that says nothing yet: every key with what it means, commented out."""
    lines = [
        "# The configuration of gemmad. What is commented out is the default; where there is none, an example.",
        "# `gemmad config check` checks it, a running daemon takes it when it is saved.",
        "# live: in force at once; recycle: with new workers; restart: when the daemon starts anew.",
    ]
    for section, kind in sections().items():
        lines += ["", f"# {kind.__doc__}", f"[{section}]"]
        for key in keys():
            if key.section == section:
                unset = "; not set" if key.default is None else ""
                words = f"{key.doc} ({key.type_words}; {key.when}{unset})"
                lines += [*textwrap.wrap(words, 118, initial_indent="# ", subsequent_indent="# "), _commented(key)]
    return "\n".join(lines) + "\n"


def toml_value(value: Any) -> str | None:
    """As it stands in a file; None for what does not."""
    return None if value is None else _toml(value)


def told_value(key: str, value: Any) -> str | None:
    """The same for those who may look and no more, and for the log: of a setting whose value may let its reader in, as
    many a webhook's path does, only the host."""
    return toml_value(without_secret(key, value))


def without_secret(key: str, value: Any) -> Any:
    """`value`, or as much of it as anybody may know."""
    if key not in MAY_BE_SECRET or value is None:
        return value
    parts = urlsplit(value)
    return f"{parts.scheme}://{parts.netloc}" + ("/…" if parts.path.strip("/") or parts.query else "")


def config_toml(config: Config, origins: Mapping[str, str] | None = None) -> str:
    """`config` as a file that says the same; with `origins`, each line tells who set its value."""
    lines: list[str] = []
    for section in sections():
        lines.append(f"[{section}]")
        for key in keys():
            if key.section == section:
                remark = f"  # {origins[key.dotted]}" if origins is not None else ""
                lines.append(_assignment(key, value_of(config, key)) + remark)
        lines.append("")
    return "\n".join(lines)


def _row(key: Key) -> str:
    default = "none" if key.default is None else f"`{_default_words(key)}`"
    return f"| `{key.name}` | {key.type_words} | {default} | {key.when} | {key.doc} |"


_EXAMPLES = {
    "size": "1GiB",
    "duration": "1h",
    "integer": 16,
    "number": 0.5,
    "path": "/path/to/it",
    "text": "http://127.0.0.1:4318",
}


def _commented(key: Key) -> str:
    if key.default is None:
        return f"#{key.name} = {_toml(_EXAMPLES[key.type_words])}"
    return f"#{key.name} = {_default_words(key)}"


def _default_words(key: Key) -> str:
    value = key.default
    if key.type_words == "size":
        for power, unit in ((3, "GiB"), (2, "MiB"), (1, "KiB")):
            if value and value % _KIBI**power == 0:
                return _toml(f"{value // _KIBI**power}{unit}")
    if key.type_words == "duration":
        return _toml(f"{value:g}s" if value >= 1 else f"{value * 1000:g}ms")
    return _toml(value)


def _assignment(key: Key, value: Any) -> str:
    if value is None:
        return f"# {key.name} is not set"
    return f"{key.name} = {_toml(value)}"


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, tuple):
        return f"[{', '.join(_toml(item) for item in value)}]"
    if isinstance(value, str | Path):
        # JSON's strings are TOML's, but for what TOML wants escaped beyond them
        return json.dumps(str(value), ensure_ascii=False).replace("\x7f", "\\u007f")
    return repr(value)
