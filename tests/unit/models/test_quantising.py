"""Rows to codes: how near, how safely, and that nothing depends on how they are cut."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gemmad.errors import CheckpointError
from gemmad.kernels.matrices import FP8_LARGEST, CodedKind, CodedMatrix, decode, empty_coded
from gemmad.models.quantising import code_rows, quantise

KINDS: tuple[CodedKind, ...] = ("int4", "int8", "fp8")
ABSMAX = {"int4": 7.0, "int8": 127.0, "fp8": FP8_LARGEST}


def gaussian(rows: int, columns: int) -> torch.Tensor:
    """As weights are: many small numbers, a few of four times their spread."""
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(rows)) * 0.02


def heavy(rows: int, columns: int) -> torch.Tensor:
    """Student's t with 4 degrees of freedom: some numbers are ten times as large as most."""
    generator = torch.Generator().manual_seed(rows)
    normal = torch.randn(5, rows, columns, generator=generator)
    return normal[0] / (normal[1:].square().mean(0)).sqrt() * 0.02


def absmax(kind: CodedKind, rows: torch.Tensor) -> torch.Tensor:
    """The usual way, with scales as they are stored: each group's largest magnitude over the kind's largest code."""
    grouped = rows.view(-1, 128 if kind == "int4" else rows.shape[1])
    scales = grouped.abs().amax(1, keepdim=True) / ABSMAX[kind]
    if kind == "int4":
        scales = scales.half().float()
    codes = grouped / scales
    if kind == "fp8":
        codes = codes.clamp(-FP8_LARGEST, FP8_LARGEST).to(torch.float8_e4m3fn).float()
    else:
        codes = codes.round().clamp(-8 if kind == "int4" else -127, ABSMAX[kind])
    return (codes * scales).view(rows.shape)


def miss(numbers: torch.Tensor, rows: torch.Tensor) -> float:
    """Norm of the error over that of the rows."""
    return float((numbers - rows.float()).norm() / rows.float().norm())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize(
    ("kind", "make", "most"),
    [
        ("int4", gaussian, 0.098),
        ("int4", heavy, 0.16),
        ("int8", gaussian, 0.0078),
        ("int8", heavy, 0.0175),
        ("fp8", gaussian, 0.0265),
        ("fp8", heavy, 0.026),
    ],
)
def test_how_near(kind: CodedKind, make: Callable[[int, int], torch.Tensor], most: float, dtype: torch.dtype) -> None:
    """Gaussian and heavy-tailed rows lose no more than the search was measured to lose, and less than under absmax."""
    rows = make(64, 1024).to(dtype)
    coded = quantise(kind, rows)
    found = miss(decode(coded), rows)
    assert found < most
    assert found < miss(absmax(kind, rows.float()), rows)


@given(data=st.data())
def test_no_group_is_worse_than_under_absmax(data: st.DataObject) -> None:
    """Whatever the numbers are, no group of int4 and no row of the others misses more than absmax would."""
    kind = data.draw(st.sampled_from(KINDS))
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 1 << 30)))
    rows = torch.randn(4, 256, generator=generator) * 10.0 ** data.draw(st.integers(-3, 3))
    rows *= torch.rand(4, 256, generator=generator) ** data.draw(st.sampled_from([0.0, 1.0, 4.0, 16.0]))
    if data.draw(st.booleans()):
        rows = rows.sign()  # one magnitude: absmax is exact in all kinds
    width = 128 if kind == "int4" else 256
    errors = [
        (numbers - rows).view(-1, width).norm(dim=1) for numbers in (decode(quantise(kind, rows)), absmax(kind, rows))
    ]
    assert bool((errors[0] <= errors[1] * (1 + 1e-5) + 1e-6 * rows.view(-1, width).norm(dim=1)).all())


@pytest.mark.parametrize("kind", KINDS)
def test_cut_in_any_way(kind: CodedKind) -> None:
    """Rows get the same codes and scales alone, in small pieces, and in more than are worked on at a time."""
    rows = heavy(1200, 384)
    whole, again = quantise(kind, rows), quantise(kind, rows)
    parts = [quantise(kind, part) for part in torch.split(rows, [1, 6, 193, 1000])]
    for other in (again, joined(parts)):
        assert torch.equal(whole.codes, other.codes)
        assert torch.equal(whole.scales, other.scales)


def joined(parts: list[CodedMatrix]) -> CodedMatrix:
    """Rows one after the other."""
    codes, scales = torch.cat([part.codes for part in parts]), torch.cat([part.scales for part in parts], 1)
    return CodedMatrix(parts[0].kind, codes, scales)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [0.0, 1e-45, 1e-40, 1e-30, 1e-8, 1e8, 1e30, 3e38])
def test_numbers_of_any_size(kind: CodedKind, size: float) -> None:
    """Zeros stay zeros; subnormal and huge numbers give finite numbers of at most their size, beside ordinary ones."""
    rows = gaussian(3, 256) / 0.1
    rows[1] = size * torch.linspace(-1, 1, 256)
    found = decode(quantise(kind, rows))
    assert bool(found.isfinite().all())
    assert float(found[1].abs().max()) <= max(1.2 * size, 1e-7)
    assert miss(found[[0, 2]], rows[[0, 2]]) < 0.11
    if size == 0.0 or (kind == "int4" and size <= 1e-8):  # less than half of float16's least
        assert int(found[1].count_nonzero()) == 0
    elif 1e-30 < size < 1e6 or kind != "int4":
        assert size < 1e-29 or miss(found[1] / size, rows[1] / size) < 0.12


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("value", [float("inf"), float("-inf"), float("nan")])
def test_what_is_no_number(kind: CodedKind, value: float) -> None:
    """An infinity or a NaN anywhere is refused with the matrix's name."""
    rows = gaussian(700, 512)
    rows[650, 17] = value
    with pytest.raises(CheckpointError, match=r"layers\.0\.o holds numbers that are infinite or none"):
        quantise(kind, rows, name="layers.0.o")


@pytest.mark.parametrize("group", [32, 64, 128])
def test_smaller_groups_are_nearer(group: int) -> None:
    """int4 in smaller groups misses less; scales are one for each group and row."""
    rows = heavy(16, 512)
    coded = quantise("int4", rows, group=group)
    assert coded.scales.shape == (512 // group, 16)
    assert miss(decode(coded), rows) < {32: 0.112, 64: 0.14, 128: 0.165}[group]


def test_both_sides_of_int4_are_used() -> None:
    """A group's largest number falls on the side that reaches -8, whichever sign it has."""
    rows = gaussian(256, 128)
    coded = quantise("int4", torch.cat([rows, -rows]))
    scales = coded.scales.view(2, -1)
    assert 0 < int((scales[0] < 0).sum()) < 256
    assert torch.equal(scales[0], -scales[1])


def test_into_a_part_of_a_matrix() -> None:
    """Rows of a merged matrix are coded in place; the others stay as they were."""
    whole: Any = empty_coded("int4", 12, 256, device=torch.device("cpu"))
    for tensor in whole.tensors():
        tensor.fill_(3)
    rows, faults = gaussian(4, 256), torch.zeros((), dtype=torch.bool)
    code_rows(rows, whole.rows(4, 8), faults)
    assert not faults
    assert torch.equal(whole.rows(4, 8).codes, quantise("int4", rows).codes)
    for others in (whole.rows(0, 4), whole.rows(8, 12)):
        assert all(bool((tensor == 3).all()) for tensor in others.tensors())
