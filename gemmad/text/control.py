"""Control tokens: strings that steer the model when the chat template writes them, and are words when people do.

A chat template mixes both into one text. To tell them apart afterwards, what people typed is disguised before: each
control token in it becomes one character that occurs nowhere in the request. The rendered text is split at the control
tokens that are left, which can only be the template's, and the characters in between are turned back. One character
for each, so that no template logic can cut a stand-in in two.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator, Mapping

from msgspec import Struct

from gemmad.errors import InvalidRequestError

_PRIVATE_USE = re.compile("[\ue000-\uf8ff\U000f0000-\U000ffffd\U00100000-\U0010fffd]")
_PRIVATE_RANGES = (range(0xF0000, 0xFFFFE), range(0x100000, 0x10FFFE), range(0xE000, 0xF900))


class ControlTokens:
    """The control tokens of one tokenizer."""

    def __init__(self, ids: Mapping[str, int]) -> None:
        self.ids = dict(ids)
        self._pattern = re.compile(f"({_match_longest(self.ids)})" if self.ids else "(?!)()")
        self._beginnings = {token[:size] for token in self.ids for size in range(1, len(token))}
        self._ends = {token[size:] for token in self.ids for size in range(1, len(token))}
        self._longest_edge = max(map(len, self._beginnings), default=0)

    def split(self, text: str) -> list[str]:
        """Text, control token, text, …, text: the even pieces are plain text (perhaps empty), the odd ones tokens."""
        return self._pattern.split(text)

    def disguise(self, texts: Iterable[str]) -> Disguise:
        """Stand-ins for everything in `texts`, taken together, that is a control token or could become a part of one.

        Raises InvalidRequestError if the texts use up Unicode's private characters.
        """
        texts = list(texts)
        parts = [self._dissect(text) for text in texts]
        hidden = list(dict.fromkeys(itertools.chain.from_iterable(pieces[1::2] for pieces in parts)))
        spare, *unused = _find_unused(texts, 1 + len(hidden))
        stand_ins = dict(zip(hidden, unused, strict=True))
        disguised = ("".join(_alternate(pieces, stand_ins)) for pieces in parts)
        return Disguise(tuple(disguised), spare, {char: token for token, char in stand_ins.items()})

    def _dissect(self, text: str) -> list[str]:
        """As `split`, with parts of tokens among the tokens: a beginning at the text's end, an end at its beginning.

        So whatever stands beside a text in the prompt, be it trimmed, no control token is made of both.
        """
        core = text.strip()
        if core and any(core in token for token in self.ids):
            before, after = text.split(core, 1)
            return [before, core, after]
        pieces = self.split(text)
        tail = pieces[-1].rstrip()
        size = next((n for n in self._sizes_within(tail) if tail[-n:] in self._beginnings), 0)
        if size:
            pieces[-1:] = [tail[:-size], tail[-size:], pieces[-1][len(tail) :]]
        head = pieces[0].lstrip()
        size = next((n for n in self._sizes_within(head) if head[:n] in self._ends), 0)
        if size:
            pieces[:1] = [pieces[0][: len(pieces[0]) - len(head)], head[:size], head[size:]]
        return pieces

    def _sizes_within(self, text: str) -> range:
        return range(min(self._longest_edge, len(text)), 0, -1)


class Disguise(Struct, frozen=True):
    """Texts that hold no control token, and the way back."""

    texts: tuple[str, ...]
    """In the order in which they were given."""
    spare: str
    """One more character that occurs in none of the texts."""
    originals: dict[str, str]
    """What each stand-in stands for."""

    def undo(self, text: str) -> str:
        """What was typed."""
        for stand_in, original in self.originals.items():
            text = text.replace(stand_in, original)
        return text


def _alternate(pieces: list[str], stand_ins: Mapping[str, str]) -> Iterator[str]:
    for at, piece in enumerate(pieces):
        yield stand_ins[piece] if at % 2 else piece


def _find_unused(texts: Iterable[str], count: int) -> list[str]:
    """`count` private characters that occur in none of the texts."""
    used = {char for text in texts for char in _PRIVATE_USE.findall(text)}
    free = (chr(code) for code in itertools.chain.from_iterable(_PRIVATE_RANGES))
    unused = list(itertools.islice((char for char in free if char not in used), count))
    if len(unused) < count:
        raise InvalidRequestError("The messages use nearly all of Unicode's private characters.", param="messages")
    return unused


_Tree = dict[str, "_Tree"]


def _match_longest(words: Iterable[str]) -> str:
    """A pattern for any of the words, the longest first, in time that does not grow with their number."""
    tree: _Tree = {}
    for word in words:
        node = tree
        for char in word:
            node = node.setdefault(char, {})
        node[""] = {}
    return _pattern_of(tree)


def _pattern_of(tree: _Tree) -> str:
    branches = [re.escape(char) + _pattern_of(rest) for char, rest in tree.items() if char]
    if not branches:
        return ""
    joined = branches[0] if len(branches) == 1 and "" not in tree else f"(?:{'|'.join(branches)})"
    return joined + "?" if "" in tree else joined
