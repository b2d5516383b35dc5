"""Keys and values of 8 bits: numbers to codes where pages are written, and codes to numbers where they are read.

A kernel that multiplies reads codes as words of 16 bits, each two neighbouring columns, and turns them into two
*planes*, the even and the odd columns (`codes`): in registers, where the words of two neighbouring keys, or of four
neighbouring columns, lie as tensor cores want the two planes. A row's dot product is the sum of its planes', and what
values are mixed into is two sums, of even and of odd columns. Scales never meet the codes: those of keys multiply
scores, those of values the weights.
"""
# mypy: disable-error-code="no-untyped-def,untyped-decorator"
# ruff: noqa: N803  (compile-time arguments are written in capitals)

from __future__ import annotations

from dataclasses import dataclass

import torch
import triton
import triton.language as tl

from gemmad.kernels.pages import LARGEST_CODE, Pages
from gemmad.kernels.triton.codes import planes8, planes_fp8

_FP8_BITS: tl.constexpr = tl.constexpr("""{
.reg .b32 t;
prmt.b32 t, $2, 0, 0xA280;
shl.b32 t, t, 4;
and.b32 $0, t, 0x87F087F0;
prmt.b32 t, $2, 0, 0xB391;
shl.b32 t, t, 4;
and.b32 $1, t, 0x87F087F0;
}""")
"""Every other byte, its sign spread over the byte above it, moved to where bfloat16 has sign, exponent and fraction."""

PLAIN = tl.constexpr(0)
INT8 = tl.constexpr(1)
FP8 = tl.constexpr(2)
_KINDS = {torch.int8: INT8.value, torch.float8_e4m3fn: FP8.value}
assert LARGEST_CODE.keys() == _KINDS.keys()


@dataclass(frozen=True)
class View:
    """Pages as a kernel takes them; those without codes have their keys where scales would be, never read."""

    keys: torch.Tensor
    values: torch.Tensor
    key_scales: torch.Tensor
    value_scales: torch.Tensor
    kind: int
    """0 is plain, else INT8 or FP8."""

    @property
    def width(self) -> int:
        """Elements of a row."""
        return self.keys.shape[3]

    @property
    def block_width(self) -> int:
        """Columns of a kernel's tile for a row."""
        wide: int = triton.next_power_of_2(self.width)
        return max(16, wide)

    @property
    def planes(self) -> int:
        """Columns of a query, which no code is, for each element of a row that is a word."""
        return 2 if self.kind else 1

    @property
    def strides(self) -> tuple[int, int, int]:
        """Of a page, a token and a head, in elements of what is viewed."""
        page, token, head = self.keys.stride()[:3]
        return page, token, head

    @property
    def scale_strides(self) -> tuple[int, int, int]:
        """As `strides`, of the scales."""
        page, token, head = self.key_scales.stride()[:3]
        return page, token, head


def as_words(pages: Pages) -> View:
    """Pages to be multiplied: codes as int16 [.., D / 2]."""
    return _view(pages, torch.int16)


def as_codes(pages: Pages) -> View:
    """Pages to be written or copied: codes as int8 [.., D], whatever they mean."""
    return _view(pages, torch.int8)


def _view(pages: Pages, dtype: torch.dtype) -> View:
    keys, values, key_scales, value_scales = pages.keys, pages.values, pages.key_scales, pages.value_scales
    if key_scales is None or value_scales is None:
        return View(keys, values, keys, values, PLAIN.value)
    return View(keys.view(dtype), values.view(dtype), key_scales, value_scales, _KINDS[keys.dtype])


@triton.jit
def planes(words, KIND: tl.constexpr, NATIVE: tl.constexpr, dtype: tl.constexpr):
    """Words [.., C] → even and odd columns [.., C] each, over `lift` squared. Plain rows are their own first plane."""
    if KIND == INT8:
        even, odd = planes8(words, NATIVE)
    elif (KIND == FP8) & NATIVE:
        even, odd = tl.inline_asm_elementwise(
            _FP8_BITS, "=r,=r,r", [words], dtype=(tl.bfloat16, tl.bfloat16), is_pure=True, pack=2
        )
    elif KIND == FP8:
        even, odd = planes_fp8(words, NATIVE)
    else:
        even, odd = words, words
    return even.to(dtype), odd.to(dtype)


@triton.jit
def lift(KIND: tl.constexpr, NATIVE: tl.constexpr):
    """What scales are multiplied by, and once more queries, or sums of values, so that what is made of `planes` of
    2^-120 of their worth comes out as it should: bfloat16's exponent is biased by 120 more than e4m3's, and moving that
    in small vectors costs nothing. Twice 2^60, since 2^120 leaves float32 no room. Tensor cores take subnormal numbers
    as they are."""
    return 1.152921504606847e18 if (KIND == FP8) & NATIVE else 1.0


@triton.jit
def encode(reach, first, second, KIND: tl.constexpr):
    """Two halves of rows [R, C] float32, whose largest magnitude is `reach` [R], to int8 codes, and scales [R]:
    `pages.encode_rows`."""
    largest: tl.constexpr = 127.0 if KIND == INT8 else 448.0
    spread = tl.where(reach > 0.0, tl.div_rn(largest, tl.where(reach > 0.0, reach, 1.0)), 0.0)[:, None]
    return code_of(first * spread, KIND), code_of(second * spread, KIND), tl.div_rn(reach, reach * 0.0 + largest)


@triton.jit
def decode(code, KIND: tl.constexpr):
    """int8 codes to what they are worth, float32, one at a time: for copies, where nothing else is to be done."""
    if KIND == INT8:
        return code.to(tl.float32)
    else:
        byte = code.to(tl.int32)
        bits = ((byte & 0x80) << 24) | ((byte & 0x7F) << 20)
        return bits.to(tl.float32, bitcast=True) * 1.329227995784916e36  # 2^120


@triton.jit
def code_of(number, KIND: tl.constexpr):
    """Numbers within the codes' range, rounded to nearest even. By float32's own rounding and by its bits: not every
    device converts to e4m3."""
    if KIND == INT8:
        return (number + 12582912.0).to(tl.int32, bitcast=True).to(tl.int8)  # 1.5 · 2^23: the lowest bits count ones
    else:
        size = tl.minimum(tl.abs(number), 448.0)
        bits = size.to(tl.int32, bitcast=True)
        usual = ((bits + 0x7FFFF + ((bits >> 20) & 1)) >> 20) - 960  # 3 bits of fraction; 120 less in the exponent
        small = (size + 16384.0).to(tl.int32, bitcast=True) - 0x46800000  # 2^14: the lowest bits count 2^-9
        code = tl.where(size < 0.015625, small, usual)
        return (code | ((number.to(tl.int32, bitcast=True) >> 24) & 0x80)).to(tl.int8)
