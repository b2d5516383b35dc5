"""Random numbers that need no state, and keys that sort tokens: what sampling is made of."""
# mypy: disable-error-code="no-untyped-def,untyped-decorator"

from __future__ import annotations

import triton
import triton.language as tl

NOTHING = tl.constexpr(-0x7FFFFFFFFFFFFFFF)
"""Below every key."""


@triton.jit
def philox(seed, position, ids):
    """First 32 bits of Philox 4x32-10 with key (seed) and counter (id, position): `reference.sampling.philox`."""
    word = ids.to(tl.uint32)
    low = (position & 0xFFFFFFFF).to(tl.uint32)
    high = ((position >> 32) & 0xFFFFFFFF).to(tl.uint32)
    first, _second, _third, _fourth = tl.philox(seed, word, low, high, tl.zeros_like(word))
    return first


@triton.jit
def gumbel(seed, position, ids):
    """Standard Gumbel noise of (seed, position, id), as `reference.sampling.gumbel` defines it, in float32."""
    return gumbel_of((philox(seed, position, ids) >> 8).to(tl.int32))


@triton.jit
def gumbel_of(bits):
    """`-log(-log u)` with u = (bits + ½)/2²⁴, which has 25 bits, one more than fit in float32.

    In the upper half of u, where the largest noise comes from, v = 1 - u is exact instead, and log u is
    log(w)·v/(1 - w) with w = 1 - v as rounded (Kahan's log1p).
    """
    low = bits < 0x800000
    near = tl.where(low, bits, 0xFFFFFF - bits).to(tl.float32) * 2.0**-24 + 2.0**-25  # u, or v
    rest = 1.0 - near
    logarithm = tl.log(tl.where(low, near, rest))
    gap = tl.where(rest == 1.0, 1.0, 1.0 - rest)
    upper = tl.where(rest == 1.0, -near, logarithm * (near / gap))
    return -tl.log(-tl.where(low, logarithm, upper))


@triton.jit
def order_key(values, ids):
    """64 bits that sort as (value, then the smaller id), so that no two tokens tie.

    Above, the float32 bits, all but the sign inverted in negative ones, which sorts them as a signed integer; below,
    the inverted id.
    """
    bits = values.to(tl.int32, bitcast=True)
    bits = bits ^ ((bits >> 31) & 0x7FFFFFFF)
    return (bits.to(tl.int64) << 32) | (0x7FFFFFFF - ids.to(tl.int64))


@triton.jit
def key_value(keys):
    """The value in a key."""
    bits = (keys >> 32).to(tl.int32)
    return (bits ^ ((bits >> 31) & 0x7FFFFFFF)).to(tl.float32, bitcast=True)


@triton.jit
def key_id(keys):
    """The id in a key."""
    return 0x7FFFFFFF - (keys & 0x7FFFFFFF)
