"""AWQ and GPTQ: modules packed here, one bit after the other, and modules that do not hold together."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gemmad.errors import CheckpointError
from gemmad.kernels.matrices import CodedMatrix, decode
from gemmad.models.formats.columns import awq_file, gptq_file
from gemmad.models.formats.integers import Int4Matrix, Int8Matrix, IntegerNumbers, integer_source
from tests.unit.models.formats.checkpoints import AWQ_ORDER, CPU, downwards, words, write_parts

ROWS, COLUMNS = 24, 256


def drawn(groups: int, bits: int = 4, *, lowest: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Codes [N, K], zeros [G, N] from `lowest` on, and scales [G, N] float16."""
    codes, zeros = torch.randint(0, 1 << bits, (ROWS, COLUMNS)), torch.randint(lowest, 1 << bits, (groups, ROWS))
    return codes, zeros, (torch.rand(groups, ROWS) * 0.02 + 0.001).to(torch.float16)


def exact(codes: torch.Tensor, zeros: torch.Tensor, scales: torch.Tensor) -> torch.Tensor:
    """What both formats say the numbers are, in float64."""
    size = COLUMNS // len(scales)
    return (codes - zeros.t().repeat_interleave(size, 1)).double() * scales.double().t().repeat_interleave(size, 1)


def awq(codes: torch.Tensor, zeros: torch.Tensor | None, scales: torch.Tensor) -> dict[str, torch.Tensor]:
    """A module as AutoAWQ has it."""
    parts = {"qweight": words(codes.t().tolist(), 4, order=AWQ_ORDER), "scales": scales}
    return parts if zeros is None else parts | {"qzeros": words(zeros.tolist(), 4, order=AWQ_ORDER)}


def gptq(codes: torch.Tensor, zeros: torch.Tensor, scales: torch.Tensor, *, bits: int = 4) -> dict[str, torch.Tensor]:
    """A module as AutoGPTQ has it; `zeros` as they are stored."""
    order = torch.arange(COLUMNS, dtype=torch.int32) // (COLUMNS // len(scales))
    return {
        "qweight": downwards(codes.t(), bits), "qzeros": words(zeros.tolist(), bits), "scales": scales, "g_idx": order
    }  # fmt: skip


def check_offsets(read: CodedMatrix, wanted: torch.Tensor, zeros: torch.Tensor, scales: torch.Tensor) -> None:
    """Offsets are rounded once, to float16; with them the numbers are the format's up to that."""
    assert read.offsets is not None
    assert torch.equal(read.offsets, (scales.float() * (8 - zeros)).to(torch.float16))
    assert torch.equal(read.scales, scales)
    assert (decode(read).double() - wanted).abs().max() <= 8 * float(scales.max()) / 2048


@pytest.mark.parametrize("groups", [8, 2, 1])
@given(st.integers(0, 1 << 30))
def test_awq(tmp_path_factory: pytest.TempPathFactory, groups: int, seed: int) -> None:
    """Codes and scales are the file's own, zero points become offsets, and any rows are read."""
    torch.manual_seed(seed)
    codes, zeros, scales = drawn(groups)
    parts = write_parts(tmp_path_factory.mktemp("m"), awq(codes, zeros, scales))
    source = integer_source(awq_file(parts, ROWS, COLUMNS))
    assert isinstance(source, Int4Matrix)
    assert (source.shape, source.has_offsets, source.scale_dtype) == ((ROWS, COLUMNS), True, torch.float16)
    start, stop = sorted(torch.randperm(ROWS + 1)[:2].tolist())
    read = source.read(start, stop, CPU)
    kept = scales.repeat_interleave(COLUMNS // source.group // groups, 0)[:, start:stop]
    points = zeros.repeat_interleave(COLUMNS // source.group // groups, 0)[:, start:stop]
    check_offsets(read, exact(codes, zeros, scales)[start:stop], points, kept)


def test_awq_without_zeros(tmp_path: Path) -> None:
    """The middle is zero then, and there are no offsets."""
    codes, _, scales = drawn(2)
    source = integer_source(awq_file(write_parts(tmp_path, awq(codes, None, scales)), ROWS, COLUMNS))
    assert isinstance(source, Int4Matrix)
    wanted = exact(codes, torch.full((2, ROWS), 8), scales).float()
    assert torch.equal(decode(source.read(3, 14, CPU)), wanted[3:14])


@pytest.mark.parametrize("version", [1, 2])
@given(st.integers(0, 1 << 30))
def test_gptq_with_zeros(tmp_path_factory: pytest.TempPathFactory, version: int, seed: int) -> None:
    """The first version of the format stores zeros less one."""
    torch.manual_seed(seed)
    codes, zeros, scales = drawn(2, lowest=2 - version)
    parts = write_parts(tmp_path_factory.mktemp("m"), gptq(codes, zeros - (2 - version), scales))
    source = integer_source(gptq_file(parts, ROWS, COLUMNS, symmetric=False, zeros_added=2 - version))
    assert isinstance(source, Int4Matrix)
    start, stop = sorted(torch.randperm(ROWS + 1)[:2].tolist())
    wanted = exact(codes, zeros, scales)[start:stop]
    check_offsets(source.read(start, stop, CPU), wanted, zeros[:, start:stop], scales[:, start:stop])


def test_gptq_zeros_of_0_in_the_first_version(tmp_path: Path) -> None:
    """One was taken off whole words, so a zero of 0 has borrowed from the next, which gets it back."""
    codes, zeros, scales = drawn(2)
    zeros[:, ::3] = 0
    zeros[:, 7::8] = 5  # nothing beyond the word lends
    stored = words(zeros.tolist(), 4) - 0x11111111
    parts = write_parts(tmp_path, gptq(codes, zeros, scales) | {"qzeros": stored})
    source = integer_source(gptq_file(parts, ROWS, COLUMNS, symmetric=False, zeros_added=1))
    read = source.read(0, ROWS, CPU)
    assert isinstance(read, CodedMatrix)
    check_offsets(read, exact(codes, zeros, scales), zeros, scales)


@pytest.mark.parametrize(("version", "stored"), [(1, 7), (2, 8)])
def test_symmetric_gptq_has_no_offsets(tmp_path: Path, version: int, stored: int) -> None:
    """Its zeros are the middle, which is looked at."""
    codes, _, scales = drawn(2)
    parts = write_parts(tmp_path, gptq(codes, torch.full((2, ROWS), stored), scales))
    source = integer_source(gptq_file(parts, ROWS, COLUMNS, symmetric=True, zeros_added=2 - version))
    assert not isinstance(source, IntegerNumbers)
    assert not source.has_offsets
    wanted = exact(codes, torch.full((2, ROWS), 8), scales).float()
    assert torch.equal(decode(source.read(5, 22, CPU)), wanted[5:22])


def test_gptq_that_is_not_as_symmetric_as_it_says(tmp_path: Path) -> None:
    """Is refused when its rows are read."""
    codes, zeros, scales = drawn(2)
    parts = write_parts(tmp_path, gptq(codes, zeros, scales))
    source = integer_source(gptq_file(parts, ROWS, COLUMNS, symmetric=True, zeros_added=1))
    with pytest.raises(CheckpointError, match=r"m\.qweight: config\.json says it is symmetric"):
        source.read(0, ROWS, CPU)


@pytest.mark.parametrize("groups", [1, 2])
def test_gptq_of_eight_bits(tmp_path: Path, groups: int) -> None:
    """Is kept where a row has one scale, and becomes numbers where it has several."""
    codes, _, scales = drawn(groups, 8)
    parts = write_parts(tmp_path, gptq(codes, torch.full((groups, ROWS), 127), scales, bits=8))
    source = integer_source(gptq_file(parts, ROWS, COLUMNS, symmetric=True, zeros_added=1))
    assert isinstance(source, Int8Matrix if groups == 1 else IntegerNumbers)
    read = source.read(2, 23, CPU)
    wanted = exact(codes, torch.full((groups, ROWS), 128), scales).float()[2:23]
    assert torch.equal(decode(read) if isinstance(read, CodedMatrix) else read, wanted)


def test_gptq_with_sorted_columns(tmp_path: Path) -> None:
    """desc_act without static groups is refused by name; with one group there is nothing to sort into."""
    codes, zeros, scales = drawn(2)
    sorted_ = torch.randperm(COLUMNS, dtype=torch.int32) // 128
    parts = write_parts(tmp_path, gptq(codes, zeros, scales) | {"g_idx": sorted_})
    with pytest.raises(CheckpointError, match=r"m\.g_idx sorts columns .*desc_act = false"):
        gptq_file(parts, ROWS, COLUMNS, symmetric=False, zeros_added=1)
    codes, zeros, scales = drawn(1)
    gptq_file(write_parts(tmp_path, gptq(codes, zeros, scales)), ROWS, COLUMNS, symmetric=False, zeros_added=1)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"qweight": torch.zeros(24, ROWS, dtype=torch.int32)}, r"qweight is \[24, 24\], no 256 codes of 4 or 8 bits"),
        ({"qweight": torch.zeros(32, 8, dtype=torch.int32)}, r"qweight is \[32, 8\], \[32, 24\] is what fits"),
        ({"qweight": torch.zeros(32, ROWS)}, "qweight is F32, not I32"),
        ({"scales": torch.ones(3, ROWS)}, "scales has 3 groups for 256 columns"),
        ({"scales": torch.ones(0, ROWS)}, "scales has 0 groups for 256 columns"),
        ({"scales": torch.ones(())}, "scales has 0 groups"),
        ({"scales": torch.ones(2, 3)}, r"scales is \[2, 3\], \[2, 24\] is what fits"),
        ({"qzeros": torch.zeros(2, 4, dtype=torch.int32)}, r"qzeros is \[2, 4\], \[2, 3\] is what fits"),
    ],
)
def test_gptq_that_does_not_hold_together(tmp_path: Path, change: dict[str, torch.Tensor], reason: str) -> None:
    """Each is refused before anything is read, with the file and the tensor."""
    parts = write_parts(tmp_path, gptq(*drawn(2)) | change)
    with pytest.raises(CheckpointError, match=reason):
        gptq_file(parts, ROWS, COLUMNS, symmetric=False, zeros_added=1)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"qweight": torch.zeros(COLUMNS, 4, dtype=torch.int32)}, r"qweight is \[256, 4\], \[256, 3\] is what fits"),
        ({"scales": torch.ones(2, 3)}, r"scales is \[2, 3\], \[2, 24\] is what fits"),
        ({"qzeros": torch.zeros(1, 3, dtype=torch.int32)}, r"qzeros is \[1, 3\], \[2, 3\] is what fits"),
    ],
)
def test_awq_that_does_not_hold_together(tmp_path: Path, change: dict[str, torch.Tensor], reason: str) -> None:
    """Each is refused before anything is read, with the file and the tensor."""
    parts = write_parts(tmp_path, awq(*drawn(2)) | change)
    with pytest.raises(CheckpointError, match=reason):
        awq_file(parts, ROWS, COLUMNS)
    with pytest.raises(CheckpointError, match="has 20 rows, which are packed by eight"):
        awq_file(parts, 20, COLUMNS)
