"""Manual pages, as troff with the man macros: one for `gemmad`, one for each verb or group of verbs."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from gemmad.cli.reference import Exit, Group, Option, Verb

_ENVIRONMENT = (
    ("GEMMAD_CONFIG", "The configuration file, if none is named."),
    ("GEMMAD_SECTION__KEY", "A setting, above the file's: GEMMAD_SERVER__PORT is server.port."),
    ("GEMMAD_RUNTIME_DIR", "Where the running daemon has its control socket."),
    ("GEMMAD_API_KEY", "The key that chat sends."),
    ("NO_COLOR", "No colours, if it is set."),
)
_FILES = (
    ("/etc/gemmad/gemmad.toml", "The configuration of the system's service."),
    ("~/.config/gemmad/gemmad.toml", "The user's own."),
    ("/run/gemmad/control.sock", "The control socket of the system's service."),
)


def man_pages(groups: Sequence[Group]) -> dict[str, str]:
    """Every page by its file name."""
    top, *others = groups
    pages = {"gemmad.1": _main_page(groups)}
    pages |= {f"gemmad-{verb.name}.1": _verb_page(verb) for verb in top.verbs}
    return pages | {f"gemmad-{group.name}.1": _group_page(group) for group in others}


def _main_page(groups: Sequence[Group]) -> str:
    top, *others = groups
    names = [(verb.name, verb.summary) for verb in top.verbs] + [(group.name, group.summary) for group in others]
    lines = [*_head("gemmad", top.summary), ".SH SYNOPSIS", ".B gemmad", r".I VERB", "[OPTIONS]", ".SH DESCRIPTION"]
    lines += [escape(top.summary), ".SH VERBS"]
    for name, summary in names:
        lines += [".TP", rf"\fBgemmad\-{escape(name)}\fR(1)", escape(summary)]
    lines += [".SH OPTIONS", *_terms([("-h, --help", "Help, of gemmad or of any verb.")])]
    lines += _terms([("--install-completion", "Completion for your shell; see gemmad-completion(1).")])
    lines += [".SH ENVIRONMENT", *_terms(_ENVIRONMENT), ".SH FILES", *_terms(_FILES)]
    return _page(lines)


def _verb_page(verb: Verb) -> str:
    lines = [*_head(f"gemmad-{verb.name}", verb.summary), *_body(verb, heading=".SH")]
    return _page([*lines, *_see_also()])


def _group_page(group: Group) -> str:
    lines = [*_head(f"gemmad-{group.name}", group.summary), ".SH SYNOPSIS"]
    for verb in group.verbs:
        lines += [".PP", rf"\fB{escape(verb.usage)}\fR"]
    for verb in group.verbs:
        lines += [f".SH {escape(verb.name).upper()}", *_body(verb, heading=".SS")]
    return _page([*lines, *_see_also()])


def _body(verb: Verb, *, heading: str) -> list[str]:
    lines = [f"{heading} SYNOPSIS", rf"\fB{escape(verb.usage)}\fR", f"{heading} DESCRIPTION", escape(verb.summary)]
    for paragraph in verb.paragraphs:
        lines += [".PP", escape(paragraph)]
    options = [*verb.arguments, *verb.options]
    if options:
        lines += [f"{heading} OPTIONS", *_terms((_title(option), _words(option)) for option in options)]
    if verb.exits:
        lines += [f'{heading} "EXIT STATUS"', *_exits(verb.exits)]
    if verb.examples:
        lines += [f"{heading} EXAMPLES", ".nf", *map(escape, verb.examples), ".fi"]
    return lines


def _head(name: str, summary: str) -> list[str]:
    short = re.split(r"[.;:] ", summary.rstrip("."))[0]  # what `man -k` shows
    return [f'.TH "{escape(name).upper()}" 1 "" gemmad "gemmad"', ".SH NAME", rf"{escape(name)} \- {escape(short)}"]


def _see_also() -> list[str]:
    return [".SH SEE ALSO", r"\fBgemmad\fR(1)"]


def _exits(exits: Iterable[Exit]) -> list[str]:
    return _terms((str(code), words) for code, words in exits)


def _terms(pairs: Iterable[tuple[str, str]]) -> list[str]:
    lines = []
    for term, words in pairs:
        lines += [".TP", rf"\fB{escape(term)}\fR", escape(words)]
    return lines


def _title(option: Option) -> str:
    return f"{', '.join(option.names)} {option.metavar}".strip()


def _words(option: Option) -> str:
    return f"{option.help} Usually {option.default}." if option.default else option.help


def _page(lines: Iterable[str]) -> str:
    return "\n".join([r".\" Written by make docs: do not edit.", *lines]) + "\n"


def escape(text: str) -> str:
    """Text that troff takes as it stands: hyphens that can be copied, and nothing at the start of a line that asks for
    something."""
    text = text.replace("\\", r"\e").replace("-", r"\-").replace("`", r"\(ga").replace('"', r"\(dq")
    return rf"\&{text}" if text.startswith((".", "'")) else text
