"""The language of grammars between daemon and worker: llguidance's Lark, and how everything else stands in it.

A whole source is `HEADER`, a rule `start`, and whatever rules it needs. Runs where hostile text may be read: in the
grammar processes. llguidance is imported with the first text that needs it.
"""

from __future__ import annotations

import json
import re

from gemmad.errors import InvalidRequestError
from gemmad.grammar.schema import prepare
from gemmad.grammar.spec import Choice, Ebnf, JsonObject, JsonSchema, Regex

HEADER = '%llguidance {"no_forcing": true}\n'
"""First line of every source. How a text is cut into tokens is the model's choice, as it is elsewhere, so that masks
need no tokenizer."""

WHITESPACE = r"( |\n {0,32})"
"""Between JSON's tokens: nothing, a space, or a new line and its indentation. Enough for JSON as models write it, and
no room to write spaces for ever."""

_GBNF_ESCAPE = re.compile(r"\\(?:u([0-9A-Fa-f]{4})|U([0-9A-Fa-f]{8})|.)", re.DOTALL)
_ASCII = 128


def literal(text: str) -> str:
    """A text as it stands in a rule."""
    return json.dumps(text, ensure_ascii=False)


def json_schema(schema: str, *, strict: bool, param: str) -> str:
    """A JSON Schema as it stands in a rule: `value: ` + this.

    Raises InvalidRequestError, which names the place in the schema, for what is no schema and, if `strict`, for every
    keyword that cannot be held; else those are left out.
    """
    options = {"whitespace_pattern": WHITESPACE, "coerce_one_of": not strict}
    prepared = prepare(schema, strict=strict, param=param)
    return "%json " + json.dumps({**prepared, "x-guidance": options}, ensure_ascii=False, separators=(",", ":"))


def body(spec: JsonObject | JsonSchema | Regex | Choice | Ebnf, *, param: str) -> str:
    """What stands in a rule for a spec that calls nothing. Raises InvalidRequestError."""
    match spec:
        case JsonObject():
            return json_schema('{"type":"object"}', strict=False, param=param)
        case JsonSchema():
            return json_schema(spec.schema, strict=spec.strict, param=param)
        case Regex():
            return _regex(spec.pattern)
        case Choice():
            if not spec.options:
                raise InvalidRequestError("There is nothing to choose from.", param=param, code="invalid_grammar")
            return f"/{'|'.join(map(_express, spec.options))}/" if any(spec.options) else '""'
        case Ebnf():
            return "%lark {\n" + _lark(spec.source, param=param) + "\n}"


_META = re.compile(r"[\\.+*?()|\[\]{}^$/#&~\-]|[\x00-\x1f]")


def _express(text: str) -> str:
    """A text as a regular expression. One of many words is one lexeme, where a rule of words would have too many."""
    return _META.sub(lambda found: f"\\x{ord(found[0]):02x}", text)


def _regex(pattern: str) -> str:
    from llguidance import regex_to_lark

    return f"/{regex_to_lark(pattern)}/" if pattern else '""'


def _lark(source: str, *, param: str) -> str:
    """Lark as it is; GBNF, which is told by its `::=`, translated."""
    if any(found["sign"] for found in _GBNF_TOKEN.finditer(source)):
        source = _translate(source, param)
    for token in (found["sign"] for found in _LARK_TOKEN.finditer(source)):
        if token is None:
            continue
        if token.startswith("<"):
            message = f"The grammar refers to the special token {token[:100]!r}; replies have none."
            raise InvalidRequestError(message, param=param, code="invalid_grammar")
        if token.startswith("@"):
            message = "The grammar refers to a grammar outside of it."
            raise InvalidRequestError(message, param=param, code="invalid_grammar")
    return source


_SKIPPED = r'"(?:\\.|[^"\\\n])*"|(?://|#)[^\n]*'
_LARK_TOKEN = re.compile(_SKIPPED + r"|/(?:\\.|[^/\\\n])+/|(?P<sign><[^<>\n]*>|@[\w-]+)")
_GBNF_TOKEN = re.compile(_SKIPPED + r"|\[(?:\\.|[^\]\\\n])*\]|(?P<sign>::=)|(?<![\w-])(?P<start>start)(?![\w-])")
"""What matters of a grammar outside of its strings, expressions and comments."""


def _translate(source: str, param: str) -> str:
    from llguidance.gbnf_to_lark import gbnf_to_lark

    # `root` becomes Lark's `start`, which is a name like any other in GBNF.
    source = _GBNF_TOKEN.sub(lambda found: "start-rule" if found["start"] else found[0], source)
    try:
        return gbnf_to_lark(_GBNF_ESCAPE.sub(_spell, source))
    except Exception as error:  # the library raises nothing narrower; the process is there to be lost
        message = f"The grammar is no GBNF: {str(error)[:300]}"
        raise InvalidRequestError(message, param=param, code="invalid_grammar") from error


def _spell(escape: re.Match[str]) -> str:
    digits = escape[1] or escape[2]
    if digits is None:
        return escape[0]
    code = int(digits, 16)
    if code < _ASCII:
        return f"\\x{code:02x}"
    return chr(code) if code <= 0x10FFFF and not 0xD800 <= code <= 0xDFFF else escape[0]
