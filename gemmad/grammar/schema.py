"""JSON Schemas from clients, made into what the library holds: a keyword is held, left out, or refused with its place.

Draft 2020-12, and what older drafts wrote differently. Keywords that say nothing of the text (titles, defaults, unknown
ones) go. A keyword that says something which cannot be held is refused (strict) or goes too.

An object that lists its properties and says nothing of others gets no others: a model that may invent some does, on and
on. What it then writes is still what the schema allows.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

from gemmad.errors import InvalidRequestError

LARGEST_DEPTH = 64
"""Schemas within schemas; the library's own bound is 128 levels of JSON."""
LARGEST_INTEGER = 1 << 53
TRIALS = 100
"""Parts of a schema that are tried one by one to find the one that cannot be held."""

UNHELD = frozenset(
    (
        *("not", "if", "then", "else", "contains", "minContains", "maxContains", "uniqueItems", "propertyNames"),
        *("dependentRequired", "dependentSchemas", "dependencies", "unevaluatedProperties", "unevaluatedItems"),
        *("$dynamicRef", "$recursiveRef", "contentSchema"),
    )
)
"""Keywords that no context-free grammar of tolerable size can hold."""

FORMATS = frozenset("date-time time date duration email hostname ipv4 ipv6 uuid uri".split())  # noqa: SIM905
HELD = frozenset(
    (
        *("type", "enum", "const", "anyOf", "allOf", "oneOf", "$ref", "$defs", "definitions"),
        *("properties", "required", "additionalProperties", "patternProperties", "minProperties", "maxProperties"),
        *("items", "prefixItems", "additionalItems", "minItems", "maxItems", "minLength", "maxLength", "pattern"),
        *("format", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"),
    )
)
_TYPES = frozenset("null boolean object array number string integer".split())  # noqa: SIM905


def prepare(text: str, *, strict: bool, param: str) -> dict[str, Any]:
    """The schema that the library is given. Raises InvalidRequestError, which names the place."""
    schema = _parse(text, param)
    if schema is True:
        schema = {}
    if not isinstance(schema, dict):
        _refuse("a schema is an object", (), param)
    try:
        prepared = _Cleaner(strict=strict, param=param, closes="allOf" not in text).clean(schema, ())
    except RecursionError:
        _refuse(f"the schema is nested more than {LARGEST_DEPTH} levels deep", (), param, code="grammar_too_complex")
    _try_out(prepared, strict=strict, param=param)
    assert isinstance(prepared, dict)
    return prepared


def _parse(text: str, param: str) -> Any:
    def no_constant(name: str) -> NoReturn:
        raise ValueError(f"{name} is no JSON")

    try:
        return json.loads(text, parse_constant=no_constant)
    except (ValueError, RecursionError) as error:
        detail = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise InvalidRequestError(f"The schema is no JSON: {detail}.", param=param, code="invalid_schema") from error


class _Cleaner:
    """Goes through a schema once. A path is the keys from the root."""

    def __init__(self, *, strict: bool, param: str, closes: bool) -> None:
        """`closes`: objects get the properties that they list. Parts of an `allOf` list each their own."""
        self._strict = strict
        self._param = param
        self._closes = closes
        self._handlers: dict[str, Callable[[Any, tuple[str, ...]], Any]] = {
            **dict.fromkeys(("properties", "patternProperties", "$defs", "definitions"), self._named),
            **dict.fromkeys(("anyOf", "oneOf", "allOf", "prefixItems"), self._listed),
            **dict.fromkeys(("additionalProperties", "items", "additionalItems"), self.clean),
            **dict.fromkeys(("minLength", "maxLength", "minItems", "maxItems"), self._count),
            **dict.fromkeys(("minProperties", "maxProperties"), self._count),
            **dict.fromkeys(("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"), self._number),
            "multipleOf": self._positive,
            "type": self._type,
            "enum": self._enum,
            "required": self._strings,
            "$ref": self._reference,
            "format": self._format,
            "pattern": self._pattern,
            "const": self._value,
        }
        assert self._handlers.keys() == HELD

    def clean(self, schema: Any, path: tuple[str, ...]) -> Any:
        """The schema with nothing in it but what is held."""
        if isinstance(schema, bool):
            return schema
        if not isinstance(schema, dict):
            self._wrong("a schema is an object or a boolean", path)
        if len(path) > 2 * LARGEST_DEPTH:
            raise RecursionError
        cleaned: dict[str, Any] = {}
        for key, value in _modern(schema).items():
            place = (*path, key)
            handler = self._handlers.get(key)
            if handler is not None:
                held = handler(value, place)
                if held is not _LEFT_OUT:
                    cleaned[key] = held
            elif key in UNHELD and not _says_nothing(key, value):
                self._cannot(f"{key} cannot be held", place)
        if self._closes and _lists_all(cleaned):
            cleaned["additionalProperties"] = False
        return cleaned

    def _named(self, value: Any, path: tuple[str, ...]) -> dict[str, Any]:
        if not isinstance(value, dict):
            self._wrong("an object of schemas is wanted", path)
        if path[-1] == "patternProperties":
            kept = {name for name in value if self._pattern(name, (*path, name)) is not _LEFT_OUT}
            value = {name: schema for name, schema in value.items() if name in kept}
        return {name: self.clean(schema, (*path, name)) for name, schema in value.items()}

    def _listed(self, value: Any, path: tuple[str, ...]) -> list[Any]:
        if not isinstance(value, list) or not (value or path[-1] == "prefixItems"):
            self._wrong("a list of schemas is wanted", path)
        return [self.clean(schema, (*path, str(at))) for at, schema in enumerate(value)]

    def _count(self, value: Any, path: tuple[str, ...]) -> int:
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if not isinstance(value, int) or isinstance(value, bool) or value < 0:
            self._wrong("a whole number from 0 is wanted", path)
        if value >= 1 << 32:
            self._wrong("the number is too large", path, code="grammar_too_complex")
        return value

    def _number(self, value: Any, path: tuple[str, ...]) -> int | float:
        if not isinstance(value, int | float) or isinstance(value, bool):
            self._wrong("a number is wanted", path)
        self._value(value, path)
        return value

    def _positive(self, value: Any, path: tuple[str, ...]) -> int | float:
        if self._number(value, path) <= 0:
            self._wrong("a number above 0 is wanted", path)
        number: int | float = value
        return number

    def _type(self, value: Any, path: tuple[str, ...]) -> Any:
        names = [value] if isinstance(value, str) else value
        if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
            self._wrong("the name of a type, or a list of them, is wanted", path)
        for name in names:
            if name not in _TYPES:
                self._wrong(f"there is no type {name[:50]!r}", path)
        return value

    def _enum(self, value: Any, path: tuple[str, ...]) -> Any:
        if not isinstance(value, list) or not value:
            self._wrong("a list of values is wanted", path)
        return [self._value(option, (*path, str(at))) for at, option in enumerate(value)]

    def _value(self, value: Any, path: tuple[str, ...]) -> Any:
        """Any JSON, which the library reads with 64-bit floats."""
        if isinstance(value, int) and abs(value) > LARGEST_INTEGER:
            self._cannot("integers above 2⁵³ cannot be held exactly", path)
        elif isinstance(value, list | dict):
            for below in value.values() if isinstance(value, dict) else value:
                self._value(below, path)
        return value

    def _strings(self, value: Any, path: tuple[str, ...]) -> Any:
        if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
            self._wrong("a list of names is wanted", path)
        return value

    def _reference(self, value: Any, path: tuple[str, ...]) -> Any:
        if not isinstance(value, str):
            self._wrong("a reference is a string", path)
        if value == "#" or value.startswith("#/"):
            return value
        self._cannot("a reference leads out of the schema, or to an anchor", path)
        return _LEFT_OUT

    def _format(self, value: Any, path: tuple[str, ...]) -> Any:
        if not isinstance(value, str):
            self._wrong("the name of a format is wanted", path)
        if value in FORMATS:
            return value
        self._cannot(f"the format {value[:50]!r} cannot be held", path)
        return _LEFT_OUT

    def _pattern(self, value: Any, path: tuple[str, ...]) -> Any:
        if not isinstance(value, str):
            self._wrong("a regular expression is wanted", path)
        problem = _problem({"type": "string", "pattern": value})
        if problem is None:
            return value
        self._cannot(f"the pattern cannot be held: {problem}", path)
        return _LEFT_OUT

    def _cannot(self, what: str, path: tuple[str, ...]) -> None:
        if self._strict:
            _refuse(what, path, self._param)

    def _wrong(self, what: str, path: tuple[str, ...], *, code: str = "invalid_schema") -> NoReturn:
        _refuse(what, path, self._param, code=code)


_LEFT_OUT: Any = object()
_OPENING = frozenset(("additionalProperties", "patternProperties", "anyOf", "oneOf", "$ref"))


def _lists_all(schema: dict[str, Any]) -> bool:
    """Whether nothing speaks for properties beside those that are listed."""
    listed = schema.get("properties")
    if listed is None or _OPENING & schema.keys():
        return False
    required: set[str] = set(schema.get("required", ()))
    fewest: int = schema.get("minProperties", 0)
    return required <= listed.keys() and fewest <= len(listed)


def _modern(schema: dict[str, Any]) -> dict[str, Any]:
    """Drafts 4 to 7 in the words of 2020-12."""
    modern: dict[str, Any] = {}
    for key, value in schema.items():
        if key == "items" and isinstance(value, list):
            modern["prefixItems"] = value
            if "additionalItems" in schema:
                modern["items"] = schema["additionalItems"]
        elif key == "additionalItems" or (key.startswith("exclusive") and isinstance(value, bool)):
            continue
        elif key in {"minimum", "maximum"} and schema.get("exclusive" + key.capitalize()) is True:
            modern["exclusive" + key.capitalize()] = value
        else:
            modern[key] = value
    return modern


def _says_nothing(key: str, value: Any) -> bool:
    """Whether a keyword that cannot be held asks for nothing here."""
    if key == "uniqueItems":
        return value is False
    if key in {"then", "else", "minContains", "maxContains"}:
        return True  # `if` and `contains` say it for them
    return key not in {"not", "contains"} and value in (True, {}, [])


def _try_out(prepared: Any, *, strict: bool, param: str) -> None:
    """Compile it, and where that fails say which part it is. Raises InvalidRequestError."""
    options = {"coerce_one_of": not strict}
    problem = _problem(prepared, options)
    if problem is None:
        return
    definitions = {key: prepared[key] for key in ("$defs", "definitions") if key in prepared}
    place: tuple[str, ...] = ()
    parts = sorted(_parts(prepared, ()), key=lambda part: -len(part[0]))
    for path, part in parts[:TRIALS]:
        if isinstance(part, dict) and _problem({**part, **definitions}, options) == problem:
            place = path
            break
    _refuse(problem, place, param, code=code_of(problem, "invalid_schema"))


def _parts(schema: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    if not isinstance(schema, dict):
        return
    for key, value in schema.items():
        if key in {"properties", "patternProperties", "$defs", "definitions"}:
            below = value.items()
        elif key in {"anyOf", "oneOf", "allOf", "prefixItems"}:
            below = ((str(at), part) for at, part in enumerate(value))
        elif key in {"items", "additionalProperties"}:
            yield (*path, key), value
            yield from _parts(value, (*path, key))
            continue
        else:
            continue
        for name, part in below:
            yield (*path, key, name), part
            yield from _parts(part, (*path, key, name))


def _problem(schema: Any, options: dict[str, Any] | None = None) -> str | None:
    """What the library says against a schema; None: nothing."""
    from llguidance import LLMatcher

    from gemmad.grammar.vocabulary import LIMITS

    whole = {**schema, "x-guidance": options or {}}
    text = json.dumps({"grammars": [{"json_schema": whole}]}, ensure_ascii=False)
    said = LLMatcher.validate_grammar(text, limits=LIMITS)
    return plain(said) if said and not said.startswith("WARNING") else None


def plain(said: str) -> str:
    """The library's words without its own source and stack."""
    if said.startswith("panic"):
        return "the library cannot read it"
    first = said.rsplit("failed to compile JSON schema: ", maxsplit=1)[-1].strip()
    lines = [line.strip() for line in first.splitlines() if line.strip() and "|" not in line[:8]]
    if lines and lines[0].startswith("regex parse error"):
        lines = [lines[-1].removeprefix("error: ")]
    return (lines[0] if lines else "it cannot be compiled")[:300].rstrip(".")


_TOO_MUCH = ("fuel", "too large", "too many", "too big", "too deep", "limit", "too complex", "exceed", "max is")


def code_of(problem: str, otherwise: str) -> str:
    """Whether something is wrong or merely too much."""
    return "grammar_too_complex" if any(word in problem.lower() for word in _TOO_MUCH) else otherwise


def _refuse(what: str, path: tuple[str, ...], param: str, *, code: str = "invalid_schema") -> NoReturn:
    where = "/" + "/".join(key.replace("~", "~0").replace("/", "~1") for key in path) if path else ""
    shown = where if len(where) <= 200 else f"{where[:200]}…"
    message = f"At {shown}: {what}." if shown else f"{what[:1].upper()}{what[1:]}."
    raise InvalidRequestError(f"The schema cannot be used. {message}", param=param, code=code)
