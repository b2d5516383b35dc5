"""Numbers to codes: each scale is the one of several whose codes come nearest to the rows, by the sum of squares.

For a scale 1/d the nearest codes q of numbers x leave, under the best scale for those codes s = ⟨q,x⟩/⟨q,q⟩ (least
squares), an error of ⟨x,x⟩ - ⟨q,x⟩²/⟨q,q⟩. So the score ⟨q,x⟩/‖q‖ tells the best of the scales that are tried without
their errors being computed. What is tried are divisors of the number that is largest in magnitude:

- int4: 7.5 to 12.5; more than 8 clips it. Scales may be negative, so that it always falls on the side that reaches -8,
  as in ggml's Q4_0 (https://github.com/ggml-org/ggml, `quantize_row_q4_0_ref`). Error against absmax over 7, groups of
  128: 0.097 of the norm for 0.118 (Gaussian), 0.158 for 0.193 (Student's t with 4 degrees).
- int8: 127 to 136. Clipping is worth 1 % of the error, and nothing beyond.
- fp8: 448 · 2^(-i/10). Clipping helps nothing; where in an octave the numbers fall is worth 2 to 4 %.

Then the codes are rounded anew under the scale as it is stored. Where absmax is nearer after all, it is absmax.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from gemmad.errors import CheckpointError
from gemmad.kernels.matrices import BLOCK, FP8_LARGEST, CodedKind, CodedMatrix, empty_coded, pack

WORK_NUMBERS = {"cuda": 8 << 20}
"""Numbers that are coded at a time, on a GPU: enough for its kernels to be longer than their launches."""
CPU_WORK_NUMBERS = 1 << 19
"""The same for a CPU: what its cache holds."""
_SMALLEST = 1e-30
"""A group without a number larger than this is zeros: float32 would not hold its scale in full."""


@dataclass(frozen=True)
class _Search:
    """How one kind's scales are found."""

    absmax: float
    """The largest number over this is the scale that everybody takes."""
    divisors: tuple[float, ...]
    signed: bool = False
    """Whether a scale may be negative."""


_SEARCHES: dict[CodedKind, _Search] = {
    "int4": _Search(7.0, (7.5, 8.0, 8.4, 8.8, 9.2, 9.6, 10.1, 10.7, 11.5, 12.5), signed=True),
    "int8": _Search(127.0, (127.0, 128.5, 130.0, 133.0, 136.0)),
    "fp8": _Search(FP8_LARGEST, tuple(FP8_LARGEST * 2 ** (-i / 10) for i in range(10))),
}


def quantise(kind: CodedKind, rows: torch.Tensor, *, group: int = BLOCK, name: str = "a matrix") -> CodedMatrix:
    """Code rows [N, K] of any floating dtype where they lie; `group` is int4's, whose scales are float16.

    Raises CheckpointError for rows that hold an infinity or no number, with `name`.
    """
    count, columns = rows.shape
    into = empty_coded(kind, count, columns, device=rows.device, group=group)
    faults = torch.zeros((), dtype=torch.bool, device=rows.device)
    code_rows(rows, into, faults)
    refuse_faults(faults, name)
    return into


def refuse_faults(faults: torch.Tensor, name: str) -> None:
    """Raises CheckpointError if `code_rows` has come upon an infinity or no number."""
    if bool(faults):
        raise CheckpointError(f"{name} holds numbers that are infinite or none")


def code_rows(rows: torch.Tensor, into: CodedMatrix, faults: torch.Tensor) -> None:
    """Code rows [N, K] of any floating dtype into as many rows of a matrix without offsets, on the same device.

    `faults`, a bool without dimensions, becomes True if a number is infinite or none: the device is not waited for.
    Memory on the way: about 20 bytes for each of `WORK_NUMBERS` numbers.
    """
    assert into.offsets is None, "what is coded here needs no zero points"
    step = max(1, WORK_NUMBERS.get(rows.device.type, CPU_WORK_NUMBERS) // rows.shape[1])
    for at in range(0, rows.shape[0], step):
        _code(rows[at : at + step], into.rows(at, at + step), faults)


def _code(rows: torch.Tensor, into: CodedMatrix, faults: torch.Tensor) -> None:
    kind, search = into.kind, _SEARCHES[into.kind]
    numbers = torch.empty(rows.numel() // into.group, into.group, dtype=torch.float32, device=rows.device)
    numbers.copy_(rows.reshape(numbers.shape))
    units = _units(numbers, signed=search.signed)
    faults |= ~torch.isfinite(units).all()
    units = torch.where(units.abs() >= _SMALLEST, units, 1.0)
    numbers /= units[:, None]
    room = torch.empty_like(numbers)
    scales = _choose(kind, numbers, search.divisors, room)
    stored, near = _stored(scales, units, into.scales.dtype)
    plain, usual = _stored(torch.full_like(units, 1 / search.absmax), units, into.scales.dtype)
    worse = _error(kind, numbers, near, room) > _error(kind, numbers, usual, room)
    stored, near = torch.where(worse, plain, stored), torch.where(worse, usual, near)
    codes = _nearest(kind, torch.mul(numbers, _inverse(near)[:, None], out=room)).view(rows.shape)
    into.codes.copy_(pack(kind, _bits(kind, codes)))
    into.scales.copy_(stored.view(len(rows), -1).t())


def _units(numbers: torch.Tensor, *, signed: bool) -> torch.Tensor:
    """Of each group the largest magnitude; or the number that has it, negated: over that it is -1."""
    low, high = torch.aminmax(numbers, dim=-1)
    if not signed:
        return torch.maximum(-low, high)
    return -torch.where(-low >= high, low, high)


def _choose(kind: CodedKind, numbers: torch.Tensor, divisors: tuple[float, ...], room: torch.Tensor) -> torch.Tensor:
    """The best scale for the codes of the best divisor, for each group [G]; `room` is as large as `numbers`."""
    best = torch.full_like(numbers[:, 0], -1.0)
    scales = torch.full_like(best, 1 / divisors[0])
    product = torch.empty_like(numbers)
    for divisor in divisors:
        codes = _nearest(kind, torch.mul(numbers, divisor, out=room))
        norms = torch.linalg.vector_norm(codes, dim=-1)
        along = torch.mul(codes, numbers, out=product).sum(-1) / norms
        better = along > best  # never where all codes are 0
        best = torch.where(better, along, best)
        scales = torch.where(better, along / norms, scales)
    return scales


def _stored(scales: torch.Tensor, units: torch.Tensor, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    """Scales of the numbers themselves as they are stored, and what those are for numbers over `units`."""
    limit = torch.finfo(dtype).max
    stored = (scales * units).clamp_(-limit, limit).to(dtype)
    return stored, stored.float() / units


def _inverse(scales: torch.Tensor) -> torch.Tensor:
    """0 for a scale that is too small to be stored: its codes are to be 0."""
    return torch.where(scales == 0, 0.0, 1 / scales)


def _error(kind: CodedKind, numbers: torch.Tensor, scales: torch.Tensor, room: torch.Tensor) -> torch.Tensor:
    """Sum of squares of what the nearest codes miss, for each group [G]."""
    codes = _nearest(kind, torch.mul(numbers, _inverse(scales)[:, None], out=room))
    return codes.mul_(scales[:, None]).sub_(numbers).square_().sum(-1)


def _nearest(kind: CodedKind, numbers: torch.Tensor) -> torch.Tensor:
    """What the nearest codes are worth, in place."""
    if kind == "fp8":
        return numbers.copy_(numbers.clamp_(-FP8_LARGEST, FP8_LARGEST).to(torch.float8_e4m3fn))
    lowest, highest = (-8, 7) if kind == "int4" else (-127, 127)
    return numbers.round_().clamp_(lowest, highest)


def _bits(kind: CodedKind, worth: torch.Tensor) -> torch.Tensor:
    """Codes as `pack` takes them."""
    if kind == "fp8":
        return worth.to(torch.float8_e4m3fn)
    return (worth + 8).to(torch.uint8) if kind == "int4" else worth.to(torch.int8)
