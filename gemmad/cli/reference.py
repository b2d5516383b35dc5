"""What the command line offers, read off its verbs' own signatures and docstrings: the source of docs/cli.md and of the
manual pages."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin, get_type_hints

import typer
from typer.models import ArgumentInfo, CommandInfo, OptionInfo

from gemmad.cli.examples import command_name

_EXIT_STATUS = re.compile(r"Exit status: (.*?)(?=\n\n|\Z)", re.DOTALL)
_METAVARS: dict[object, str] = {int: "N", float: "NUMBER", str: "TEXT", Path: "PATH"}


class Exit(NamedTuple):
    """An exit status, and what it means."""

    code: int
    words: str


class Option(NamedTuple):
    """An option, or an argument: that has no names."""

    names: tuple[str, ...]
    metavar: str
    """Empty for a flag."""
    help: str
    default: str
    """Empty: none, or one that the help tells."""
    required: bool = False
    repeated: bool = False


class Verb(NamedTuple):
    """One command."""

    name: str
    """As it is typed after `gemmad`."""
    summary: str
    paragraphs: tuple[str, ...]
    arguments: tuple[Option, ...]
    options: tuple[Option, ...]
    exits: tuple[Exit, ...]
    examples: tuple[str, ...]

    @property
    def usage(self) -> str:
        """How it is typed."""
        arguments = [each.metavar if each.required else f"[{each.metavar}]" for each in self.arguments]
        return " ".join(["gemmad", self.name, *(["[OPTIONS]"] if self.options else []), *arguments])


class Group(NamedTuple):
    """Verbs that share their first word; those without one are in a group without name."""

    name: str
    summary: str
    verbs: tuple[Verb, ...]


def read_groups(app: typer.Typer) -> tuple[Group, ...]:
    """All of it, in the order of `gemmad --help`."""
    own = tuple(_verb(command_name(info), info) for info in app.registered_commands)
    groups = [Group("", str(app.info.help), own)]
    for info in app.registered_groups:
        inner = info.typer_instance
        assert inner is not None
        verbs = tuple(_verb(f"{info.name} {command_name(each)}", each) for each in inner.registered_commands)
        groups.append(Group(str(info.name), str(inner.info.help), verbs))
    return tuple(groups)


def _verb(name: str, info: CommandInfo) -> Verb:
    assert info.callback is not None
    doc = inspect.getdoc(info.callback) or ""
    exits = _EXIT_STATUS.search(doc)
    told = [" ".join(part.split()) for part in _EXIT_STATUS.sub("", doc).split("\n\n")]
    summary, *paragraphs = [part for part in told if part]
    options = _parameters(info.callback)
    return Verb(
        name=name,
        summary=summary,
        paragraphs=tuple(paragraphs),
        arguments=tuple(each for each in options if not each.names),
        options=tuple(each for each in options if each.names),
        exits=() if exits is None else _exits(exits[1]),
        examples=tuple(line.strip() for line in (info.epilog or "").splitlines()[1:]),
    )


def _exits(text: str) -> tuple[Exit, ...]:
    parts = re.split(r", (?=\d+ )", " ".join(text.split()).rstrip("."))
    pairs = (part.partition(" ") for part in parts)
    return tuple(Exit(int(code), words) for code, _, words in pairs)


def _parameters(callback: Callable[..., Any]) -> list[Option]:
    hints = get_type_hints(callback, include_extras=True)
    return [
        _option(parameter, *get_args(hints[name]))
        for name, parameter in inspect.signature(callback).parameters.items()
        if get_origin(hints[name]) is Annotated
    ]


def _option(parameter: inspect.Parameter, kind: Any, info: OptionInfo | ArgumentInfo) -> Option:
    is_flag, repeated, name = kind is bool, False, parameter.name.replace("_", "-")
    if get_origin(kind) in (Union, UnionType):
        (kind,) = [each for each in get_args(kind) if each is not NoneType]
    if get_origin(kind) is list:
        (kind,), repeated = get_args(kind), True
    is_argument = isinstance(info, ArgumentInfo)
    metavar = info.metavar or (name.upper() if is_argument else _metavar(kind))
    required, default = parameter.default is inspect.Parameter.empty, parameter.default
    return Option(
        names=() if is_argument else _names(name, info),
        metavar="" if is_flag else metavar,
        help=info.help or "",
        default="" if required or is_flag or default is None or default == "" else _shown(default),
        required=required,
        repeated=repeated,
    )


def _names(name: str, info: OptionInfo | ArgumentInfo) -> tuple[str, ...]:
    """The long one first. In `Annotated` typer finds the first of them where a default would be."""
    told = [each for each in (info.default, *(info.param_decls or ())) if isinstance(each, str)]
    return tuple(sorted(told or [f"--{name}"], key=len, reverse=True))


def _metavar(kind: Any) -> str:
    if get_origin(kind) is Literal:
        return "|".join(map(str, get_args(kind)))
    return _METAVARS.get(kind, "VALUE")


def _shown(default: object) -> str:
    return f"{default:g}" if isinstance(default, float) else str(default)


# --- docs/cli.md ------------------------------------------------------------------------------------------------------

_PREFACE = """\
# The command line

Written by `make docs` from the commands themselves, and so are the manual pages in
[packaging/man](../packaging/man): do not edit.

`gemmad VERB --help` says the same in a terminal. `gemmad completion bash|zsh|fish` prints a completion script, and
`gemmad --install-completion` puts the one of your shell in place. Colour is for terminals, and not with `NO_COLOR` set.
What the verbs do that ask the running daemon is told in [Operating a running daemon](control.md).
"""


def cli_page(groups: Sequence[Group]) -> str:
    """docs/cli.md."""
    verbs = [verb for group in groups for verb in group.verbs]
    anchors = [f"[`gemmad {verb.name}`](#gemmad-{verb.name.replace(' ', '-')})" for verb in verbs]
    index = [f"| {anchor} | {_cell(verb.summary)} |" for anchor, verb in zip(anchors, verbs, strict=True)]
    parts = [_PREFACE, "\n".join(["| command | what it does |", "|---|---|", *index]) + "\n", *map(_section, verbs)]
    return "\n".join(parts)


def _section(verb: Verb) -> str:
    lines = [f"## gemmad {verb.name}", "", "```", verb.usage, "```", "", verb.summary]
    for paragraph in verb.paragraphs:
        lines += ["", paragraph]
    rows = [*verb.arguments, *verb.options]
    if rows:
        lines += ["", "| option | what it does |", "|---|---|", *map(_row, rows)]
    if verb.exits:
        lines += ["", "Exit status: " + ", ".join(f"**{code}** {words}" for code, words in verb.exits) + "."]
    lines += ["", "```sh", *verb.examples, "```", ""]
    return "\n".join(lines)


def _row(option: Option) -> str:
    names = ", ".join(option.names)
    default = f" Usually {option.default}." if option.default else ""
    return f"| `{_cell(f'{names} {option.metavar}'.strip())}` | {_cell(option.help)}{default} |"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
