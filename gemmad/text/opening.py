"""How calls are written in a reply, and how far from that they may be.

A call is `{"name": "f", "parameters": {…}}`; several stand on lines of their own. That is what the model is asked for.
Out of habit it also puts calls into a list or a fence. So what comes before the name is a form with room in it, and the
same form makes the reader (`calls.py`) and the expressions of the grammar that replies are held to.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
from msgspec import Struct


class Blank(Struct, frozen=True):
    """Some of these characters, or none."""

    chars: str = " \t\r\n"
    most: int | None = None


class OneOf(Struct, frozen=True):
    """One of these words, or none. No word is the beginning of another, or of what may follow."""

    words: tuple[str, ...]


class Maybe(Struct, frozen=True):
    """These steps, or none of them. They begin with a character that what follows cannot begin with."""

    steps: tuple[Step, ...]


Step = str | Blank | OneOf | Maybe
Form = tuple[Step, ...]

_FENCE = Maybe(("```", OneOf(("json", "tool_code", "tool_call")), Blank(" \t"), "\n", Blank()))
_GAP = Blank(most=8)
"""Where a call has begun: a model that is held to it must not go on with white space for ever."""
_OBJECT: Form = ("{", Blank(), '"name"', Blank(), ":", Blank())

BEFORE_FIRST_NAME: Form = (Blank(" \t"), _FENCE, Maybe(("[", Blank())), *_OBJECT)
"""All before the quoted name in a reply's first call. It begins where a line begins."""
BEFORE_ARGUMENTS: Form = (_GAP, ",", _GAP, '"parameters"', _GAP, ":", _GAP)
"""All between a quoted name and the object of arguments."""
AFTER_ARGUMENTS: Form = (_GAP, "}")
BETWEEN_CALLS: Form = (_GAP, Maybe((",",)), _GAP)
BEFORE_NEXT_NAME: Form = (*AFTER_ARGUMENTS, *BETWEEN_CALLS, *_OBJECT)
"""All between a call's object of arguments and the quoted name in the next."""
AFTER_LAST: Form = (_GAP, Maybe(("]",)), _GAP, Maybe(("```",)), _GAP)
"""What may stand behind the last call."""


def quote_name(name: str) -> str:
    """As it stands in a call: the one spelling of JSON that is read."""
    return msgspec.json.encode(name).decode()


def begin_call(name: str) -> str:
    """All before a call's arguments, as the model is asked to write it."""
    return f'{{"name": {quote_name(name)}, "parameters": '


def write_call(name: str, arguments: str) -> str:
    """A call as the model is asked to write it. `arguments` is JSON text."""
    return begin_call(name) + arguments + "}"


def express(form: Form) -> str:
    """A regular expression for it, in Rust's words."""
    return "".join(_express(step) for step in form)


def express_text(text: str) -> str:
    """A regular expression for this text alone, in Rust's words. It may stand between slashes."""
    return "".join(_ESCAPES.get(char, char) for char in text)


_ESCAPES = {char: "\\" + char for char in '\\.+*?()|[]{}^$/"#&-~'} | {"\n": "\\n", "\t": "\\t", "\r": "\\r"}


def _express(step: Step) -> str:
    match step:
        case str():
            return express_text(step)
        case Blank(chars, most):
            return f"[{express_text(chars)}]" + ("*" if most is None else f"{{0,{most}}}")
        case OneOf(words):
            return f"(?:{'|'.join(map(express_text, words))})?"
        case Maybe(steps):
            return f"(?:{express(steps)})?"


class Opening(Struct, frozen=True):
    """Of a call that has surely begun."""

    name: str
    end: int
    """Where its arguments begin."""


def find_opening(form: Form, text: str, names: Mapping[str, str]) -> Opening | bool:
    """The opening that `text` begins with. True if it may yet become one, False if not.

    `form` is what stands before the name, `names` has each tool's by how it is quoted.
    """
    start = _scan(form, text, 0)
    if isinstance(start, bool):
        return start
    quoted = next((quoted for quoted in names if text.startswith(quoted, start)), None)
    if quoted is None:
        return any(quoted.startswith(text[start:]) for quoted in names)
    end = _scan((*BEFORE_ARGUMENTS, "{"), text, start + len(quoted))
    return end if isinstance(end, bool) else Opening(names[quoted], end - 1)


def _scan(form: Form, text: str, at: int) -> int | bool:
    """Where in `text` the form ends that begins at `at`. True if it may go on behind the text, False if it is not
    there."""
    for step in form:
        end = _scan_step(step, text, at)
        if isinstance(end, bool):
            return end
        at = end
    return at


def _scan_step(step: Step, text: str, at: int) -> int | bool:
    match step:
        case str():
            return at + len(step) if text.startswith(step, at) else step.startswith(text[at : at + len(step)])
        case Blank(chars, most):
            rest = text[at:] if most is None else text[at : at + most]
            return at + len(rest) - len(rest.lstrip(chars))
        case OneOf(words):
            rest = text[at : at + max(map(len, words))]
            word = next((word for word in words if rest.startswith(word)), "")
            return at + len(word) if word or not any(word.startswith(rest) for word in words) else True
        case Maybe(steps):
            if at == len(text):
                return True
            first = steps[0]
            assert isinstance(first, str)
            return _scan(steps, text, at) if text[at] == first[0] else at
