"""Calls in the text of a reply, read while it arrives.

A call may begin where a line begins, and the name of a tool must stand in its opening: any other text, be it JSON, is
text. Behind a call come calls, and what closes a list or a fence; the reply's grammar admits nothing else there.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection

from msgspec import Struct

from gemmad.text.opening import BEFORE_FIRST_NAME, BEFORE_NEXT_NAME, Opening, find_opening, quote_name


class CallDelta(Struct, frozen=True):
    """More of a call. The first of each call has id and name and no arguments; then only arguments come."""

    index: int
    """Counts the calls of one choice from 0."""
    arguments: str
    """More of the JSON text."""
    id: str | None = None
    name: str | None = None


class Call(Struct, frozen=True):
    """A whole call."""

    id: str
    name: str
    arguments: str


class Heard(Struct, frozen=True):
    """What a piece of a reply's text turned out to be."""

    text: str = ""
    calls: tuple[CallDelta, ...] = ()


class CallReader:
    """Tells text from calls in one reply. What it says depends on the text alone, not on how it was cut into pieces.

    Text is held back only while it may yet be a call's opening, or is white space before anything else.
    """

    def __init__(self, names: Collection[str], *, key: str, is_forced: bool = False, has_form: bool = False) -> None:
        """`names` are the tools' that it may call. `key` stands for the reply and no other: the ids of its calls are
        made of it. With `is_forced` there is no text: what does not become a call is dropped. With `has_form` the text
        is held to some form of its own, so that a call can be the whole reply only."""
        self.calls: list[Call] = []
        """Those that are complete."""
        self._names = {quote_name(name): name for name in names}
        self._key = key
        self._is_forced = is_forced
        self._has_form = has_form
        self._held = ""
        self._blank = ""
        """White space that is not shown until something follows it."""
        self._has_said = False
        self._at_line_start = True
        self._open: _OpenCall | None = None

    @property
    def is_cut(self) -> bool:
        """Whether a call has begun and not ended. If the reply ends here, half of it has been told as deltas."""
        return self._open is not None and not self._open.is_whole

    def feed(self, text: str) -> Heard:
        """What is certain now."""
        said: list[str] = []
        deltas: list[CallDelta] = []
        rest = self._held + text
        self._held = ""
        while rest:
            if self.is_cut:
                rest = self._take_arguments(rest, deltas)
            elif self._open is None:
                rest = self._take_line(rest, said, deltas)
            else:
                rest = self._take_between(rest, deltas)
        return Heard("".join(said), tuple(deltas))

    def finish(self) -> Heard:
        """What was held back, now that no more text comes."""
        held = self._blank + self._held if self._open is None and not self._is_forced else ""
        self._held = self._blank = ""
        return Heard(held)

    def _take_line(self, rest: str, said: list[str], deltas: list[CallDelta]) -> str:
        """Up to the end of a line, or a call's opening. What it returns has yet to be looked at."""
        if self._at_line_start:
            opening = find_opening(BEFORE_FIRST_NAME, rest, self._names)
            if opening is True:
                self._held = rest
                return ""
            if opening:
                if self._has_said:
                    said.append(self._blank)
                self._blank = ""
                return self._begin(opening, rest, deltas)
        line, newline, after = rest.partition("\n")
        self._at_line_start = bool(newline) and not self._has_form
        self._say(line + newline, said)
        return after

    def _say(self, text: str, said: list[str]) -> None:
        if self._is_forced:
            return
        if text.isspace():
            self._blank += text
            return
        said.append(self._blank + text)
        self._blank = ""
        self._has_said = True

    def _take_between(self, rest: str, deltas: list[CallDelta]) -> str:
        """White space and commas after a call, and the next one's opening. What closes list or fence is no text."""
        assert self._open is not None
        if self._open.is_last:
            return ""
        opening = find_opening(BEFORE_NEXT_NAME, rest, self._names)
        if opening is True:
            self._held = rest
        elif opening:
            return self._begin(opening, rest, deltas)
        else:
            self._open.is_last = True
        return ""

    def _begin(self, opening: Opening, rest: str, deltas: list[CallDelta]) -> str:
        index = len(self.calls)
        digest = hashlib.blake2b(f"{self._key} {index}".encode(errors="surrogatepass"), digest_size=12).hexdigest()
        self._open = _OpenCall(f"call_{digest}", opening.name)
        deltas.append(CallDelta(index, "", id=self._open.id, name=opening.name))
        return rest[opening.end :]

    def _take_arguments(self, rest: str, deltas: list[CallDelta]) -> str:
        assert self._open is not None
        end = self._open.read(rest)
        deltas.append(CallDelta(len(self.calls), rest[:end]))
        if self._open.is_whole:
            self.calls.append(Call(self._open.id, self._open.name, "".join(self._open.arguments)))
        return rest[end:]


class _OpenCall:
    """The object of a call's arguments, as far as it has come. Its opening brace is the first that is read."""

    _marks = re.compile(r'\\.?|["{}]', re.DOTALL)

    def __init__(self, call_id: str, name: str) -> None:
        self.id = call_id
        self.name = name
        self.arguments: list[str] = []
        self.is_whole = False
        self.is_last = False
        """Whether something followed that was no call."""
        self._depth = 0
        self._is_in_string = False
        self._is_escaped = False

    def read(self, text: str) -> int:
        """How much of `text` belongs to it."""
        end = len(text)
        for mark in self._marks.finditer(text, 1 if self._is_escaped else 0):
            if mark[0] == '"':
                self._is_in_string = not self._is_in_string
            elif not self._is_in_string and mark[0] in "{}":
                self._depth += 1 if mark[0] == "{" else -1
                if self._depth == 0:
                    end = mark.end()
                    self.is_whole = True
                    break
        self._is_escaped = _ends_escaped(text, was_escaped=self._is_escaped)
        self.arguments.append(text[:end])
        return end


def _ends_escaped(text: str, *, was_escaped: bool) -> bool:
    """Whether the character after `text` is a backslash's."""
    backslashes = len(text) - len(text.rstrip("\\"))
    if backslashes == len(text) and was_escaped:
        backslashes -= 1
    return backslashes % 2 == 1
