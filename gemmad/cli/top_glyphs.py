"""Bars and small curves out of characters, for terminals with and without Unicode."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct
from rich.text import Text

GOOD, MIDDLING, BAD, DIM = "green", "yellow", "red", "dim"


class Glyphs(Struct, frozen=True, kw_only=True):
    """What a terminal can show."""

    full: str
    empty: str
    mark: str
    levels: str
    """From least to most; the first stands for nothing."""


UNICODE = Glyphs(full="█", empty="░", mark="│", levels=" ▁▂▃▄▅▆▇█")
ASCII = Glyphs(full="#", empty=".", mark="|", levels=" .:-=+*#@")


def glyphs_for(encoding: str | None) -> Glyphs:
    """Those that a stream of this encoding can carry."""
    try:
        "".join((UNICODE.full, UNICODE.empty, UNICODE.mark, UNICODE.levels)).encode(encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return ASCII
    return UNICODE


def style_of(share: float) -> str:
    """How worrying it is that so much of something is used."""
    return BAD if share >= 0.95 else MIDDLING if share >= 0.8 else GOOD


def bar(share: float, width: int, glyphs: Glyphs, *, mark: float | None = None, style: str | None = None) -> Text:
    """`width` cells of which a share is full; `mark` is another share, at which a line stands."""
    share = min(1.0, max(0.0, share))
    filled = round(share * width)
    cells = [glyphs.full] * filled + [glyphs.empty] * (width - filled)
    if mark is not None and width:
        cells[min(width - 1, max(0, round(mark * width)))] = glyphs.mark
    return Text("".join(cells), style=style or style_of(share))


def spark(values: Sequence[float | None], width: int, glyphs: Glyphs) -> str:
    """The values as a curve of `width` characters, the latest at the right; each is the most of those that it stands
    for. None leaves a gap; what is not there yet is blank."""
    if width <= 0:
        return ""
    each = max(1, -(-len(values) // width))
    first = len(values) % each
    groups = [values[:first]] if first else []
    groups += [values[at : at + each] for at in range(first, len(values), each)]
    known = [[value for value in group if value is not None] for group in groups]
    most = max((max(group) for group in known if group), default=0.0)
    steps = len(glyphs.levels) - 1
    shown = [_level(group, most, steps) for group in known][-width:]
    return "".join(glyphs.levels[level] for level in shown).rjust(width)


def _level(group: Sequence[float], most: float, steps: int) -> int:
    if not group or max(group) <= 0 or most <= 0:
        return 0
    return max(1, round(max(group) / most * steps))
