"""Numbers of 4 and 8 bits as kernels read them: 16 bits at a time, turned into bfloat16 in registers.

`gemmad.kernels.matrices` tells how they are packed. On a device one instruction works on two packed words at once and
each of its results holds two neighbouring numbers of one plane, as tensor cores want them: nothing is shuffled.

- int4: `0x4300 | code` is 128 + code in bfloat16, whose 7 bits of fraction count whole numbers there; less 136 it is
  code - 8, exactly.
- int8: `0x4300 | low 7 bits` less `0x4300 | sign bit`, which is 128 or 256: two's complement, exactly.
- fp8 (e4m3): sign, exponent and fraction moved to where bfloat16 has them, times 2^120 for the exponents' difference
  of bias, exactly, subnormal numbers included.
"""
# mypy: disable-error-code="no-untyped-def,untyped-decorator"
# ruff: noqa: N803  (compile-time arguments are written in capitals)

from __future__ import annotations

import triton
import triton.language as tl

INT4 = """{
.reg .b32 one, bias, t;
mov.b32 one, 0x3F803F80;
mov.b32 bias, 0xC308C308;
lop3.b32 t, $4, 0x000F000F, 0x43004300, 0xEA;
fma.rn.bf16x2 $0, t, one, bias;
shr.u32 t, $4, 4;
lop3.b32 t, t, 0x000F000F, 0x43004300, 0xEA;
fma.rn.bf16x2 $1, t, one, bias;
shr.u32 t, $4, 8;
lop3.b32 t, t, 0x000F000F, 0x43004300, 0xEA;
fma.rn.bf16x2 $2, t, one, bias;
shr.u32 t, $4, 12;
lop3.b32 t, t, 0x000F000F, 0x43004300, 0xEA;
fma.rn.bf16x2 $3, t, one, bias;
}"""
INT8 = """{
.reg .b32 minus, s, t, u;
mov.b32 minus, 0xBF80BF80;
lop3.b32 t, $2, 0x007F007F, 0x43004300, 0xEA;
lop3.b32 u, $2, 0x00800080, 0x43004300, 0xEA;
fma.rn.bf16x2 $0, u, minus, t;
shr.u32 s, $2, 8;
lop3.b32 t, s, 0x007F007F, 0x43004300, 0xEA;
lop3.b32 u, s, 0x00800080, 0x43004300, 0xEA;
fma.rn.bf16x2 $1, u, minus, t;
}"""
FP8 = """{
.reg .b32 up, none, s, t;
mov.b32 up, 0x7B807B80;
mov.b32 none, 0x80008000;
shl.b32 s, $2, 4;
and.b32 s, s, 0x07F007F0;
shl.b32 t, $2, 8;
lop3.b32 t, t, 0x80008000, s, 0xEA;
fma.rn.bf16x2 $0, t, up, none;
shr.u32 s, $2, 4;
and.b32 s, s, 0x07F007F0;
lop3.b32 t, $2, 0x80008000, s, 0xEA;
fma.rn.bf16x2 $1, t, up, none;
}"""


INT4_BIASED = """{
.reg .b32 t;
lop3.b32 $0, $4, 0x000F000F, 0x43004300, 0xEA;
shr.u32 t, $4, 4;
lop3.b32 $1, t, 0x000F000F, 0x43004300, 0xEA;
shr.u32 t, $4, 8;
lop3.b32 $2, t, 0x000F000F, 0x43004300, 0xEA;
shr.u32 t, $4, 12;
lop3.b32 $3, t, 0x000F000F, 0x43004300, 0xEA;
}"""
"""The same with 128 + code in each plane."""

_INT4 = tl.constexpr(INT4)
_INT8 = tl.constexpr(INT8)
_FP8 = tl.constexpr(FP8)


@triton.jit
def planes4(words, NATIVE: tl.constexpr):
    """Words [.., C] int16 → their four planes [.., C] bfloat16, code - 8 each."""
    if NATIVE:
        return tl.inline_asm_elementwise(
            _INT4, "=r,=r,=r,=r,r", [words],
            dtype=(tl.bfloat16, tl.bfloat16, tl.bfloat16, tl.bfloat16), is_pure=True, pack=2,
        )  # fmt: skip
    else:
        wide = words.to(tl.int32)
        return (
            ((wide & 15) - 8).to(tl.float32).to(tl.bfloat16),
            (((wide >> 4) & 15) - 8).to(tl.float32).to(tl.bfloat16),
            (((wide >> 8) & 15) - 8).to(tl.float32).to(tl.bfloat16),
            (((wide >> 12) & 15) - 8).to(tl.float32).to(tl.bfloat16),
        )


@triton.jit
def planes8(words, NATIVE: tl.constexpr):
    """Words [.., C] int16 → their two planes [.., C] bfloat16, two's complement each."""
    if NATIVE:
        return tl.inline_asm_elementwise(
            _INT8, "=r,=r,r", [words], dtype=(tl.bfloat16, tl.bfloat16), is_pure=True, pack=2
        )
    else:
        wide = words.to(tl.int32)
        return ((wide << 24) >> 24).to(tl.float32).to(tl.bfloat16), ((wide << 16) >> 24).to(tl.float32).to(tl.bfloat16)


@triton.jit
def planes_fp8(words, NATIVE: tl.constexpr):
    """Words [.., C] int16 → their two planes [.., C] bfloat16, e4m3 each."""
    if NATIVE:
        return tl.inline_asm_elementwise(
            _FP8, "=r,=r,r", [words], dtype=(tl.bfloat16, tl.bfloat16), is_pure=True, pack=2
        )
    else:
        wide = words.to(tl.int32)
        return _from_e4m3(wide & 0xFF), _from_e4m3((wide >> 8) & 0xFF)


@triton.jit
def _from_e4m3(byte):
    bits = ((byte & 0x80) << 24) | ((byte & 0x7F) << 20)
    return (bits.to(tl.float32, bitcast=True) * 1.329227995784916e36).to(tl.bfloat16)
