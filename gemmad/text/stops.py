"""Stop strings in a stream of text.

Text is held back only as long as it could still become a stop string. For each stop string there is one number: how
many of its characters the text so far ends with (Knuth, Morris, Pratt 1977). The largest of these numbers is what is
held; a new piece of text costs a step for each of its characters and stop strings, however long those are.
"""

from __future__ import annotations

from collections.abc import Sequence

from gemmad.errors import InvalidRequestError

MAX_STOPS = 16
LONGEST_STOP = 4096
"""Characters in one stop string; over it a request is refused."""


class StopMatcher:
    """Lets text through up to the first stop string.

    The stop string that is complete first counts; of several that end with the same character, the longest. So it makes
    no difference how the text is cut into pieces.
    """

    def __init__(self, stops: Sequence[str] = ()) -> None:
        """Empty strings and repetitions are dropped. Raises InvalidRequestError on too many or too long strings."""
        if len(stops) > MAX_STOPS:
            raise InvalidRequestError(f"At most {MAX_STOPS} stop strings are possible, not {len(stops)}.", param="stop")
        if any(len(stop) > LONGEST_STOP for stop in stops):
            raise InvalidRequestError(f"A stop string is longer than {LONGEST_STOP} characters.", param="stop")
        self.met: str | None = None
        """The stop string that was met."""
        self._prefixes = [_Prefix(stop) for stop in dict.fromkeys(stops) if stop]
        self._held = ""

    @property
    def stopped(self) -> bool:
        """Whether one was met."""
        return self.met is not None

    def feed(self, text: str) -> str:
        """The text that is now certain to stand before any stop string; nothing once one was met."""
        if self.met is not None or not text:
            return ""
        whole = self._held + text
        met = self._first_match(text)
        if met is not None:
            begin, self.met = met
            shown, self._held = len(self._held) + begin, ""
            return whole[:shown]
        shown = len(whole) - max((prefix.matched for prefix in self._prefixes), default=0)
        self._held = whole[shown:]
        return whole[:shown]

    def finish(self) -> str:
        """What was held back, now that no more text comes."""
        held, self._held = self._held, ""
        return held

    def _first_match(self, text: str) -> tuple[int, str] | None:
        """Where in `text` the first stop string to be complete begins (negative: in what is held), and which it is."""
        first: tuple[int, int, str] | None = None
        end = len(text)
        for prefix in self._prefixes:
            found = prefix.advance(text, end)
            if found is not None:
                match = (found, found - len(prefix.stop), prefix.stop)
                first = match if first is None else min(first, match)
                end = found
        return None if first is None else first[1:]


class _Prefix:
    """How much of one stop string the text so far ends with."""

    def __init__(self, stop: str) -> None:
        self.stop = stop
        self.matched = 0
        self._borders = _borders_of(stop)

    def advance(self, text: str, end: int) -> int | None:
        """Reads `text` up to `end`; where in it the stop string was first complete, or None."""
        stop, borders = self.stop, self._borders
        matched, at = self.matched, 0
        while at < end:
            if matched == 0:
                at = text.find(stop[0], at, end)
                if at < 0:
                    break
            while matched and text[at] != stop[matched]:
                matched = borders[matched - 1]
            if text[at] == stop[matched]:
                matched += 1
            at += 1
            if matched == len(stop):
                return at
        self.matched = matched
        return None


def _borders_of(stop: str) -> list[int]:
    """For each prefix of `stop` the length of its longest end that is also its beginning."""
    borders = [0] * len(stop)
    length = 0
    for at in range(1, len(stop)):
        while length and stop[at] != stop[length]:
            length = borders[length - 1]
        if stop[at] == stop[length]:
            length += 1
        borders[at] = length
    return borders
