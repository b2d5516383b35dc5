"""Files that the formats' own libraries wrote, gguf 0.19 and compressed-tensors 0.20, and the numbers that those
libraries read from them. Blocks of the K types are random bytes; all else was quantised from normal numbers."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from gemmad.kernels.matrices import CodedMatrix, decode
from gemmad.models.formats.columns import awq_file
from gemmad.models.formats.compressed import compressed_source
from gemmad.models.formats.gguf import GgufMatrix, GgufNumbers
from gemmad.models.formats.integers import integer_source
from gemmad.models.formats.stored import Parts
from gemmad.models.tensorfile import StoredTensor, read_header
from gemmad.planning.gguf import read_gguf
from tests.unit.models.formats.checkpoints import CPU

GOLDEN = Path(__file__).parent / "golden"
GGUF_NUMBERS = load_file(GOLDEN / "gguf-0.19-numbers.safetensors")
MODULE_NUMBERS = load_file(GOLDEN / "compressed-tensors-0.20-numbers.safetensors")


def stored_blocks(kind: str) -> StoredTensor:
    """A tensor of the golden file."""
    found = {tensor.name: tensor for tensor in read_gguf(GOLDEN / "gguf-0.19-blocks.gguf").tensors}[f"{kind}.weight"]
    return StoredTensor(found.path, found.name, found.kind, found.shape, found.start, found.end)


@pytest.mark.parametrize("kind", GGUF_NUMBERS)
def test_blocks_are_the_numbers_that_gguf_reads(kind: str) -> None:
    """Every type that gemmad decodes, to the last bit."""
    stored = stored_blocks(kind)
    assert stored.kind == kind
    source = GgufNumbers(stored, stored.shape)
    assert torch.equal(source.read(0, 3, CPU), GGUF_NUMBERS[kind])
    assert torch.equal(source.read(1, 2, CPU), GGUF_NUMBERS[kind][1:2])


def test_q4_0_is_kept_to_the_bit() -> None:
    """Codes and scales are the file's own."""
    matrix = GgufMatrix(stored_blocks("Q4_0"))
    assert torch.equal(decode(matrix.read(0, 3, CPU)), GGUF_NUMBERS["Q4_0"])


@pytest.mark.parametrize("kind", ["Q4_1", "Q4_K"])
def test_types_with_minima_are_kept_to_float16(kind: str) -> None:
    """A number moves by half a bit of float16 of what is added to it, and of eight steps."""
    read = GgufMatrix(stored_blocks(kind)).read(0, 3, CPU)
    assert read.offsets is not None
    steps, added = (each.float().t().repeat_interleave(32, 1).abs() for each in (read.scales, read.offsets))
    room = (8 * steps + added) / 2048 * 1.001 + 2.0**-22  # where float16 has no more bits
    assert ((decode(read) - GGUF_NUMBERS[kind]).abs() <= room).all()


def golden_parts(case: str) -> Parts:
    """A module of the golden file."""
    stored = read_header(GOLDEN / "compressed-tensors-0.20-modules.safetensors")
    return {tensor.name.rpartition(".")[2]: tensor for tensor in stored if tensor.name.startswith(f"{case}.")}


def test_awq_is_what_compressed_tensors_converts_it_to() -> None:
    """Random words of AutoAWQ's layout, in 4 groups of 32 columns: the same numbers but for float16 offsets."""
    source = integer_source(awq_file(golden_parts("awq"), 16, 128))
    read = source.read(0, 16, CPU)
    assert isinstance(read, CodedMatrix)
    torch.testing.assert_close(decode(read), MODULE_NUMBERS["awq"], rtol=0, atol=8 * 0.021 / 2048)


@pytest.mark.parametrize("case", [name for name in MODULE_NUMBERS if name != "awq"])
def test_modules_are_the_numbers_that_compressed_tensors_reads(case: str) -> None:
    """Rounded as that library rounds, to the scales' dtype, they are the same; with zeros, up to float32's rounding."""
    wanted = MODULE_NUMBERS[case]
    read = compressed_source(golden_parts(case), 16, 256).read(0, 16, CPU)
    assert isinstance(read, CodedMatrix) == (case != "w8_group64")
    numbers = decode(read) if isinstance(read, CodedMatrix) else read
    if "zeros" in case:
        torch.testing.assert_close(numbers, wanted, rtol=0, atol=1e-8)
    else:
        assert torch.equal(numbers.to(wanted.dtype), wanted)
