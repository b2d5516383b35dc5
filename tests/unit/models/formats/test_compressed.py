"""compressed-tensors: modules packed here, one bit after the other, and modules that do not hold together."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gemmad.errors import CheckpointError
from gemmad.kernels.matrices import decode
from gemmad.models.formats.compressed import Fp8Matrix, Fp8Numbers, compressed_source
from gemmad.models.formats.integers import Int4Matrix, Int8Matrix, IntegerNumbers
from gemmad.models.tensorfile import read_header
from tests.unit.models.formats.checkpoints import CPU, downwards, words, write_parts

ROWS, COLUMNS = 24, 256


def packed(
    *, bits: int = 4, groups: int = 2, zeros: bool = False, dtype: torch.dtype = torch.float16
) -> dict[str, torch.Tensor]:
    """A module of `pack-quantized`, with what it is made of under names in capitals."""
    codes = torch.randint(0, 1 << bits, (ROWS, COLUMNS))
    scales = (torch.rand(ROWS, groups) * 0.02 + 0.001).to(dtype)
    middle = torch.full((ROWS, groups), 1 << (bits - 1))
    points = torch.randint(0, 1 << bits, (ROWS, groups)) if zeros else middle
    parts = {
        "weight_packed": words(codes.tolist(), bits),
        "weight_scale": scales,
        "weight_shape": torch.tensor([ROWS, COLUMNS]),
        "CODES": codes,
        "ZEROS": points,
    }
    return parts | ({"weight_zero_point": downwards(points, bits)} if zeros else {})


def exact(parts: dict[str, torch.Tensor]) -> torch.Tensor:
    """What the format says a module's numbers are, in float64."""
    scales = parts["weight_scale"].double().repeat_interleave(COLUMNS // parts["weight_scale"].shape[1], 1)
    zeros = parts["ZEROS"].double().repeat_interleave(COLUMNS // parts["ZEROS"].shape[1], 1)
    return (parts["CODES"].double() - zeros) * scales


def on_disk(parts: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Without what is for the test."""
    return {name: tensor for name, tensor in parts.items() if not name.isupper()}


@pytest.mark.parametrize("groups", [8, 4, 2, 1])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@given(st.integers(0, 1 << 30))
def test_four_bits_are_kept(
    tmp_path_factory: pytest.TempPathFactory, groups: int, dtype: torch.dtype, seed: int
) -> None:
    """Codes and scales are the file's own, in groups of 32, 64 and 128 columns and of whole rows; any rows are read."""
    torch.manual_seed(seed)
    parts = packed(groups=groups, dtype=dtype)
    source = compressed_source(write_parts(tmp_path_factory.mktemp("m"), on_disk(parts)), ROWS, COLUMNS)
    assert isinstance(source, Int4Matrix)
    assert (source.shape, source.kind, source.has_offsets) == ((ROWS, COLUMNS), "int4", False)
    assert (source.group, source.scale_dtype) == (min(128, COLUMNS // groups), dtype)
    start, stop = sorted(torch.randperm(ROWS + 1)[:2].tolist())
    read = source.read(start, stop, CPU)
    assert (read.group, read.scales.dtype) == (source.group, dtype)
    assert torch.equal(decode(read), exact(parts)[start:stop].float())


@given(st.integers(0, 1 << 30))
def test_zero_points_become_offsets(tmp_path_factory: pytest.TempPathFactory, seed: int) -> None:
    """Which are rounded to the scales' dtype once, and scales and codes are not."""
    torch.manual_seed(seed)
    parts = packed(groups=4, zeros=True)
    source = compressed_source(write_parts(tmp_path_factory.mktemp("m"), on_disk(parts)), ROWS, COLUMNS)
    start, stop = sorted(torch.randperm(ROWS + 1)[:2].tolist())
    assert isinstance(source, Int4Matrix)
    assert source.has_offsets
    read = source.read(start, stop, CPU)
    offsets = (parts["weight_scale"].float() * (8 - parts["ZEROS"])).to(torch.float16)
    assert read.offsets is not None
    assert torch.equal(read.offsets, offsets[start:stop].t())
    assert torch.equal(read.scales, parts["weight_scale"][start:stop].t())
    assert ((decode(read) - exact(parts)[start:stop]).abs() <= 8 * 0.021 / 2048).all()


def test_eight_bits_with_a_scale_for_each_row_are_kept(tmp_path: Path) -> None:
    """As int8, its lowest code included."""
    parts = packed(bits=8, groups=1, dtype=torch.bfloat16)
    parts["CODES"][0, 0] = 0
    parts["weight_packed"] = words(parts["CODES"].tolist(), 8)
    source = compressed_source(write_parts(tmp_path, on_disk(parts)), ROWS, COLUMNS)
    assert isinstance(source, Int8Matrix)
    assert (source.kind, source.group, source.has_offsets, source.scale_dtype) == (
        "int8",
        COLUMNS,
        False,
        torch.float32,
    )
    assert torch.equal(decode(source.read(3, 21, CPU)), exact(parts)[3:21].float())


@pytest.mark.parametrize(("groups", "zeros"), [(4, False), (1, True), (4, True)])
def test_eight_bits_in_groups_or_with_zero_points_become_numbers(tmp_path: Path, groups: int, zeros: bool) -> None:
    """int8 has one scale a row, and no offsets."""
    parts = packed(bits=8, groups=groups, zeros=zeros, dtype=torch.float32)
    source = compressed_source(write_parts(tmp_path, on_disk(parts)), ROWS, COLUMNS)
    assert isinstance(source, IntegerNumbers)
    torch.testing.assert_close(source.read(5, 19, CPU), exact(parts)[5:19].float(), rtol=1e-6, atol=0)


@pytest.mark.parametrize("shape", [(ROWS, 1), (ROWS,), (1,), ()])
def test_int8_in_whole_bytes(tmp_path: Path, shape: tuple[int, ...]) -> None:
    """With a scale for each row, or one for all; zero points that are all 0 are none."""
    weight, scale = torch.randint(-128, 128, (ROWS, COLUMNS), dtype=torch.int8), torch.rand(shape) + 0.1
    zeros = torch.zeros(shape, dtype=torch.int8)
    parts = write_parts(tmp_path, {"weight": weight, "weight_scale": scale, "weight_zero_point": zeros})
    source = compressed_source(parts, ROWS, COLUMNS)
    assert isinstance(source, Int8Matrix)
    wanted = weight.float() * (scale.view(-1, 1) if scale.dim() else scale)
    assert torch.equal(decode(source.read(2, 9, CPU)), wanted[2:9])


def test_int8_with_zero_points_becomes_numbers(tmp_path: Path) -> None:
    """There is no room for them."""
    weight, scale = torch.randint(-128, 128, (ROWS, COLUMNS), dtype=torch.int8), torch.rand(ROWS, 1)
    zeros = torch.randint(-128, 128, (ROWS, 1), dtype=torch.int8)
    parts = write_parts(tmp_path, {"weight": weight, "weight_scale": scale, "weight_zero_point": zeros})
    source = compressed_source(parts, ROWS, COLUMNS)
    assert isinstance(source, IntegerNumbers)
    assert torch.equal(source.read(2, 9, CPU), ((weight.float() - zeros.float()) * scale)[2:9])


@pytest.mark.parametrize("shape", [(ROWS, 1), (ROWS,), (1,), ()])
def test_fp8_is_kept(tmp_path: Path, shape: tuple[int, ...]) -> None:
    """With a scale for each row, or one for all; what is said of activations is not read."""
    weight = torch.randn(ROWS, COLUMNS).to(torch.float8_e4m3fn)
    scale = (torch.rand(shape) + 0.1).to(torch.bfloat16)
    parts = write_parts(tmp_path, {"weight": weight, "weight_scale": scale, "input_scale": torch.ones(1)})
    source = compressed_source(parts, ROWS, COLUMNS)
    assert isinstance(source, Fp8Matrix)
    assert (source.kind, source.group, source.scale_dtype) == ("fp8", COLUMNS, torch.float32)
    wanted = weight.float() * (scale.float().view(-1, 1) if scale.dim() else scale.float())
    assert torch.equal(decode(source.read(0, 7, CPU)), wanted[:7])


def test_fp8_in_blocks_becomes_numbers(tmp_path: Path) -> None:
    """Blocks of 8 rows and 128 columns, as transformers' own fp8 has them."""
    weight, scale = torch.randn(ROWS, COLUMNS).to(torch.float8_e4m3fn), torch.rand(3, 2) + 0.1
    source = compressed_source(write_parts(tmp_path, {"weight": weight, "weight_scale_inv": scale}), ROWS, COLUMNS)
    assert isinstance(source, Fp8Numbers)
    wanted = weight.float() * scale.repeat_interleave(8, 0).repeat_interleave(128, 1)
    assert torch.equal(source.read(3, 20, CPU), wanted[3:20])


def test_columns_that_were_not_sorted(tmp_path: Path) -> None:
    """A g_idx that names groups in their order, or none, changes nothing; one of another order is refused by name."""
    parts = packed(groups=2)
    order = torch.arange(COLUMNS, dtype=torch.int32) // 128
    for told in (order, torch.full_like(order, -1)):
        compressed_source(write_parts(tmp_path, on_disk(parts) | {"weight_g_idx": told}), ROWS, COLUMNS)
    with pytest.raises(CheckpointError, match=r"m\.weight_g_idx sorts columns into groups .*desc_act"):
        compressed_source(write_parts(tmp_path, on_disk(parts) | {"weight_g_idx": order.flip(0)}), ROWS, COLUMNS)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (
            {"weight_packed": torch.zeros(ROWS, 24, dtype=torch.int32)},
            r"weight_packed is \[24, 24\], no 256 codes of 4",
        ),
        (
            {"weight_packed": torch.zeros(8, 32, dtype=torch.int32)},
            r"weight_packed is \[8, 32\], \[24, 32\] is what fits",
        ),
        ({"weight_packed": torch.zeros(ROWS, 32, dtype=torch.uint8)}, "weight_packed is U8, not I32"),
        ({"weight_scale": torch.ones(ROWS, 3)}, r"weight_scale is \[24, 3\] for a matrix of \[24, 256\]"),
        ({"weight_scale": torch.ones(ROWS, 0)}, r"weight_scale is \[24, 0\] for a matrix"),
        ({"weight_scale": torch.ones(12, 2)}, r"weight_scale is \[12, 2\], \[24, 2\] is what fits"),
        ({"weight_scale": torch.ones(ROWS, 2, dtype=torch.int32)}, "weight_scale is I32, not F32"),
        ({"weight_shape": torch.tensor([COLUMNS, ROWS])}, r"weight_shape is not \[24, 256\]"),
        ({"weight_zero_point": torch.zeros(ROWS, 2, dtype=torch.int32)}, r"weight_zero_point is \[24, 2\], \[3, 2\]"),
        ({"weight_g_idx": torch.zeros(7, dtype=torch.int32)}, r"weight_g_idx is \[7\], \[256\] is what fits"),
    ],
)
def test_modules_that_do_not_hold_together(tmp_path: Path, change: dict[str, torch.Tensor], reason: str) -> None:
    """Each is refused before anything is read, with the file and the tensor."""
    parts = write_parts(tmp_path, on_disk(packed()) | change)
    with pytest.raises(CheckpointError, match=reason) as refused:
        compressed_source(parts, ROWS, COLUMNS)
    assert str(tmp_path / "model.safetensors") in str(refused.value)


def test_codes_without_scales(tmp_path: Path) -> None:
    """Are refused by name."""
    parts = write_parts(tmp_path, {"weight_packed": torch.zeros(ROWS, 32, dtype=torch.int32)})
    with pytest.raises(CheckpointError, match=r"m\.weight_packed has no weight_scale beside it"):
        compressed_source(parts, ROWS, COLUMNS)


def test_a_file_that_became_shorter(tmp_path: Path) -> None:
    """Between its header and its codes: that is told, and nothing else happens."""
    source = compressed_source(write_parts(tmp_path, on_disk(packed())), ROWS, COLUMNS)
    path = tmp_path / "model.safetensors"
    path.write_bytes(path.read_bytes()[: read_header(path)[0].start])
    with pytest.raises(CheckpointError, match="has become shorter"):
        source.read(0, ROWS, CPU)
    path.unlink()
    with pytest.raises(CheckpointError, match="cannot be read: No such file"):
        source.read(0, ROWS, CPU)
