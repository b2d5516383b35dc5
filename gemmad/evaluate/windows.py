"""Which tokens are computed, and which of them are scored.

The text is cut into windows of C tokens that begin every S, as llama.cpp's `perplexity` does with S = C. A window's
first token is replaced by the one that every prompt begins with; what the last window lacks is left out. Scored are
the last min(S, C // 2) tokens of each, so that every scored token has half a window behind it at least, and none is
scored twice; of those perhaps only some are counted. Token t is predicted by row t - 1, so a window's last token is
never computed.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from gemmad.errors import ConfigError


class Window(Struct, frozen=True):
    """A piece of the text."""

    tokens: tuple[int, ...]
    first: int
    """Index of the first token that may be scored."""
    counted: tuple[bool, ...]
    """Of each token from the first on, whether it is."""

    @property
    def rows(self) -> tuple[int, ...]:
        """Places of the tokens before those that are scored."""
        return tuple(at for at, is_counted in enumerate(self.counted, self.first - 1) if is_counted)

    @property
    def scored(self) -> tuple[int, ...]:
        """The tokens that are predicted."""
        return tuple(self.tokens[at + 1] for at in self.rows)

    @property
    def computed(self) -> tuple[int, ...]:
        """The tokens that go through the network."""
        return self.tokens[:-1]


def cut(
    text: Sequence[int], *, context: int, stride: int, bos_id: int, counted: Sequence[bool] | None = None
) -> tuple[Window, ...]:
    """All whole windows of `context` ≥ 2 tokens. `counted`: which of the text's tokens count; None is all.

    Raises ConfigError for a text shorter than a window, and where nothing is left to be scored.
    """
    if len(text) < context:
        raise ConfigError(f"the text has {len(text)} tokens, a window {context}: give more text, or a --context")
    first = context - min(stride, context // 2)
    begins = range(0, len(text) - context + 1, stride)
    counted = [True] * len(text) if counted is None else counted
    windows = tuple(
        Window((bos_id, *text[begin + 1 : begin + context]), first, tuple(counted[begin + first : begin + context]))
        for begin in begins
    )
    if not any(window.rows for window in windows):
        raise ConfigError("no token of the text is scored: it has no reply where one would be")
    return windows
