"""What sampling asks about one row of logits: its kind, its values, its mass, its draw."""
# mypy: disable-error-code="no-untyped-def,untyped-decorator"
# ruff: noqa: N803  (compile-time arguments are written in capitals)

from __future__ import annotations

import triton
import triton.language as tl

from gemmad.kernels.triton.noise import NOTHING, gumbel, key_id, key_value, order_key


@triton.jit
def is_open(heat, most, VOCABULARY: tl.constexpr, MOST: tl.constexpr):
    """A row that is drawn from all its tokens first and filtered afterwards."""
    return (heat != 0.0) & ((most <= 0) | (most > MOST) | (most >= VOCABULARY))


@triton.jit
def is_closed(heat, most, VOCABULARY: tl.constexpr, MOST: tl.constexpr):
    """A row whose candidates are few enough to be listed first."""
    return (heat != 0.0) & (most > 0) & (most <= MOST) & (most < VOCABULARY)


@triton.jit
def is_filtered(most, share, least, VOCABULARY: tl.constexpr):
    """Whether some token might not be kept."""
    return limits(most, VOCABULARY) | (share < 1.0) | (least > 0.0)


@triton.jit
def min_p_alone(most, share, least, VOCABULARY: tl.constexpr):
    """Whether min_p is the only filter: what it keeps is known as soon as the largest value is."""
    return (limits(most, VOCABULARY) == 0) & (share >= 1.0) & (least > 0.0)


@triton.jit
def limits(most, VOCABULARY: tl.constexpr):
    """Whether top_k leaves anything out."""
    return (most > 0) & (most < VOCABULARY)


@triton.jit
def scaled(source, banned_ids, ids, heat, VOCABULARY: tl.constexpr, BANNED: tl.constexpr):
    """Logits of one row over its temperature, banned ones and places past the end -inf. Zeros lose their sign."""
    values = tl.load(source + ids, mask=ids < VOCABULARY, other=float("-inf")).to(tl.float32)
    for slot in tl.static_range(BANNED):
        banned = tl.load(banned_ids + slot)
        if banned >= 0:
            values = tl.where(ids == banned, float("-inf"), values)
    return tl.div_rn(values, tl.where(heat == 0.0, 1.0, tl.maximum(heat, 1e-6))) + 0.0


@triton.jit
def id_key(source, banned_ids, token, heat, VOCABULARY: tl.constexpr, BANNED: tl.constexpr):
    """The key of one token."""
    return order_key(scaled(source, banned_ids, token, heat, VOCABULARY, BANNED), token)


@triton.jit
def best_key(keys, COUNT: tl.constexpr, BLOCK: tl.constexpr):
    """The largest of COUNT keys."""
    places = tl.arange(0, BLOCK)
    return tl.max(tl.load(keys + places, mask=places < COUNT, other=NOTHING), 0)


@triton.jit
def best_id(keys, CHUNKS: tl.constexpr, BLOCK: tl.constexpr):
    """Id of the largest of the chunks' keys."""
    return key_id(best_key(keys, CHUNKS, BLOCK))


@triton.jit
def chunk_maxima(tops, CHUNKS: tl.constexpr, BLOCK: tl.constexpr):
    """Largest value of each chunk, -inf past the last."""
    chunks = tl.arange(0, BLOCK)
    values = key_value(tl.load(tops + chunks, mask=chunks < CHUNKS, other=0))
    return tl.where(chunks < CHUNKS, values, float("-inf"))


@triton.jit
def whole_mass(masses, largest, peak, CHUNKS: tl.constexpr, BLOCK: tl.constexpr):
    """Sum of exp(value - peak) over a row, from each chunk's sum of exp(value - its own maximum)."""
    chunks = tl.arange(0, BLOCK)
    mass = tl.load(masses + chunks, mask=chunks < CHUNKS, other=0.0)
    return tl.sum(tl.where(mass > 0.0, mass * tl.exp(largest - peak), 0.0), 0)


@triton.jit
def below_kth(largest, most):
    """A value that at least `most` of these reach, close to the largest such; -inf if too few are finite.

    Bisection between the ends: the lower one always has enough values at or above it.
    """
    finite = largest > float("-inf")
    lower = tl.min(tl.where(finite, largest, float("inf")), 0)
    upper = tl.max(largest, 0)
    for _ in range(16):
        middle = lower + (upper - lower) * 0.5
        enough = tl.sum((largest >= middle).to(tl.int32), 0) >= most
        lower = tl.where(enough, middle, lower)
        upper = tl.where(enough, upper, middle)
    return tl.where(tl.sum(finite.to(tl.int32), 0) >= most, lower, float("-inf"))


@triton.jit
def best_candidates(listed, count, MOST: tl.constexpr, LIKELY: tl.constexpr, ROOM: tl.constexpr):
    """The largest MOST keys of a list, in order; the list's own order is whichever program came first."""
    if count <= LIKELY:
        few = tl.arange(0, LIKELY)
        keys = tl.topk(tl.load(listed + few, mask=few < count, other=NOTHING), MOST)
    else:
        places = tl.arange(0, ROOM)
        keys = tl.topk(tl.load(listed + places, mask=places < count, other=NOTHING), MOST)
    return keys


@triton.jit
def draw_sorted(keys, most, share, least, seed, position, MOST: tl.constexpr):
    """Cut keys in order by all filters, as the reference does, and draw from what is kept."""
    rank = tl.arange(0, MOST)
    values = key_value(keys)
    ids = key_id(keys).to(tl.int32)
    kept = rank < most
    peak = tl.max(tl.where(rank == 0, values, float("-inf")), 0)
    weights = tl.where(kept, tl.exp(values - peak), 0.0)
    probabilities = weights / tl.sum(weights, 0)
    before = tl.cumsum(probabilities, 0) - probabilities
    kept = kept & ((rank == 0) | ((before < share) & (probabilities >= tl.max(probabilities, 0) * least)))
    scores = order_key(values + gumbel(seed, position, ids), ids)
    return key_id(tl.max(tl.where(kept, scores, NOTHING), 0))
