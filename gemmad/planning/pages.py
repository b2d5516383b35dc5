"""How the KV cache's bytes are split into pages, planned before anything is taken.

A page of the full pool holds `page_tokens` tokens for every layer that sees the whole context; a page of the sliding
pool the same for every layer that sees a window. A long sequence therefore costs many full pages and few sliding ones.
"""

from __future__ import annotations

from msgspec import Struct

from gemmad.generation import KVFormat
from gemmad.planning.codes import kv_token_bytes
from gemmad.planning.shape import ModelShape

NOMINAL_CONTEXT = 4096
"""Length of the sequence whose needs set the ratio of the two pools."""
KEPT_PROMPTS = 64
"""Prompts at their longest that the prefix cache may keep beside what runs: more pages than those are never taken."""


class PagePlan(Struct, frozen=True):
    """How many pages of each kind, and what they cost."""

    full_pages: int
    sliding_pages: int
    full_page_bytes: int
    sliding_page_bytes: int

    @property
    def full_bytes(self) -> int:
        """Bytes of the full pool."""
        return self.full_pages * self.full_page_bytes

    @property
    def sliding_bytes(self) -> int:
        """Bytes of the sliding pool."""
        return self.sliding_pages * self.sliding_page_bytes

    @property
    def nbytes(self) -> int:
        """Bytes of both pools."""
        return self.full_bytes + self.sliding_bytes


class PageRules(Struct, frozen=True, kw_only=True):
    """What a sequence holds of each pool; the same rules as the scheduler's."""

    page_tokens: int
    window: int
    full_layers: int
    sliding_layers: int
    token_bytes: int
    """Key and value of one token in one layer, their scales included."""
    longest_chunk: int
    """Tokens of one sequence that a step computes at most."""

    @classmethod
    def of(
        cls, shape: ModelShape, *, page_tokens: int, longest_chunk: int, itemsize: int, kv: KVFormat = "bf16"
    ) -> PageRules:
        """The rules of a network whose keys and values are numbers of `itemsize` bytes, or coded as `kv` says."""
        full_layers = sum(shape.full_layers)
        return cls(
            page_tokens=page_tokens,
            window=shape.window,
            full_layers=full_layers,
            sliding_layers=len(shape.full_layers) - full_layers,
            token_bytes=kv_token_bytes(shape, kv, itemsize=itemsize),
            longest_chunk=longest_chunk,
        )

    def full(self, length: int) -> int:
        """Full pages of a sequence of so many tokens."""
        return -(-length // self.page_tokens) if self.full_layers else 0

    def sliding(self, length: int, *, chunk: int = 1) -> int:
        """Sliding pages of a sequence of so many tokens while `chunk` of them are computed in one step."""
        if not self.sliding_layers:
            return 0
        reach = min(length, self.window - 1 + chunk)
        return min(-(-reach // self.page_tokens) + 1, -(-length // self.page_tokens))

    def plan(self, full_pages: int, sliding_pages: int) -> PagePlan:
        """So many pages and their cost."""
        page_bytes = self.token_bytes * self.page_tokens
        return PagePlan(full_pages, sliding_pages, self.full_layers * page_bytes, self.sliding_layers * page_bytes)

    def least(self, max_context: int) -> PagePlan:
        """What one sequence of `max_context` tokens needs at its worst moment."""
        return self.plan(self.full(max_context), self.sliding(max_context, chunk=self.longest_chunk))


def split_pages(
    rules: PageRules, kv_bytes: int, *, max_context: int, max_sequences: int, prefix_cache: bool
) -> PagePlan:
    """Split `kv_bytes`, which are enough for one longest sequence, and no more than can ever be of use.

    What is over after that one sequence goes to both pools in the ratio in which sequences of `NOMINAL_CONTEXT` tokens
    hold them while they speak. But short sequences shall not wait for their windows' pages alone: up to half of what is
    over, the sliding pool gets what `max_sequences` need there. What one pool cannot use, the other gets.
    """
    least = rules.least(max_context)
    assert kv_bytes >= least.nbytes, "one sequence must fit"
    holders = max_sequences + (KEPT_PROMPTS if prefix_cache else 0)
    most_full = holders * rules.full(max_context)
    most_sliding = least.sliding_pages + (holders - 1) * rules.sliding(max_context)
    sliding = min(most_sliding, _wanted_sliding(rules, kv_bytes, max_context, max_sequences))
    full = 0
    if rules.full_layers:
        full = min(most_full, (kv_bytes - sliding * least.sliding_page_bytes) // least.full_page_bytes)
    if rules.sliding_layers:
        sliding = min(most_sliding, (kv_bytes - full * least.full_page_bytes) // least.sliding_page_bytes)
    return rules.plan(full, sliding)


def sequences_that_fit(rules: PageRules, plan: PagePlan, length: int) -> int:
    """How many sequences of so many tokens can be computed side by side without one giving way.

    All of them speak but for one, which may be computing its longest chunk: a step's budget allows no more.
    """
    counts = []
    if rules.full_layers:
        counts.append(plan.full_pages // rules.full(length))
    if rules.sliding_layers:
        rest = plan.sliding_pages - rules.sliding(length, chunk=rules.longest_chunk)
        counts.append(0 if rest < 0 else 1 + rest // rules.sliding(length))
    return min(counts)


def _wanted_sliding(rules: PageRules, kv_bytes: int, max_context: int, max_sequences: int) -> int:
    """Sliding pages as far as both pools can use more."""
    if not rules.sliding_layers:
        return 0
    least = rules.least(max_context)
    nominal = min(max_context, NOMINAL_CONTEXT)
    unit = rules.plan(rules.full(nominal), rules.sliding(nominal))
    over_bytes = kv_bytes - least.nbytes
    by_ratio = over_bytes // unit.nbytes * unit.sliding_pages
    all_speak = (max_sequences - 1) * rules.sliding(max_context)
    half = over_bytes // 2 // least.sliding_page_bytes
    return least.sliding_pages + max(by_ratio, min(all_speak, half))
