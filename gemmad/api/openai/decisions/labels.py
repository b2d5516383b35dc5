"""What the model is to answer with, and what its probabilities say of the options.

Each option has a label: a letter, a digit, a number or a word, all of the same length where there are many. A label is
one token or several, so the labels of a question are a tree of tokens:

    ""  ─┬─ "1" ─┬─ "0"      P(10) = P(1 | 1, 2) · P(0 | 1; 0, 1)
         │       └─ "1"
         └─ "2" ─── "0"      P(20) = P(2 | 1, 2)

The network is asked once for each place where the tree branches. What it holds of the tokens there is shared among them
alone, since nothing else is an answer, and an option has the product of its shares. This is exact: it is what drawing
under a mask would give. Most questions branch once and need one token.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from msgspec import Struct

YES_NO = ("Yes", "No")
_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"

Path = tuple[int, ...]


class Branching(Struct, frozen=True):
    """A place where labels part."""

    path: Path
    """The tokens that these labels have in common."""
    ids: tuple[int, ...]
    """Those that may come next, two at least."""


class LabelTree(Struct, frozen=True):
    """The labels of one question as tokens."""

    labels: tuple[Path, ...]
    branchings: tuple[Branching, ...]
    """The first is the root; the longest path tells how far a prompt is lengthened."""

    @classmethod
    def of(cls, labels: Sequence[Sequence[int]]) -> LabelTree:
        """No label may be the beginning of another."""
        paths = tuple(map(tuple, labels))
        children: dict[Path, dict[int, None]] = {}
        for path in paths:
            for depth, token in enumerate(path):
                children.setdefault(path[:depth], {})[token] = None
        assert children.keys().isdisjoint(paths), "a label is the beginning of another"
        assert len(set(paths)) == len(paths), "two options have the same label"
        return cls(paths, tuple(Branching(path, tuple(ids)) for path, ids in children.items() if len(ids) > 1))

    def probabilities(self, logprobs: Mapping[Path, Mapping[int, float]]) -> tuple[float, ...]:
        """Of each label; together 1. `logprobs` has, by path, those of each branching's ids; others are left out."""
        shares = {
            branching.path: _shares({token: logprobs[branching.path][token] for token in branching.ids})
            for branching in self.branchings
        }
        return tuple(
            math.prod(shares[label[:depth]][token] for depth, token in enumerate(label) if label[:depth] in shares)
            for label in self.labels
        )


def option_labels(count: int) -> tuple[str, ...]:
    """What options are called: letters, or, for more than there are, numbers of equally many digits."""
    if count <= len(_LETTERS):
        return tuple(_LETTERS[:count])
    first = 10 if count <= 90 else 100
    return tuple(str(first + index) for index in range(count))


def level_labels(count: int) -> tuple[str, ...]:
    """What levels are called: 0 for the lowest."""
    assert count <= 10
    return tuple(map(str, range(count)))


def _shares(logprobs: Mapping[int, float]) -> dict[int, float]:
    highest = max(logprobs.values())
    weights = {token: math.exp(value - highest) for token, value in logprobs.items()}
    total = math.fsum(weights.values())
    return {token: weight / total for token, weight in weights.items()}
