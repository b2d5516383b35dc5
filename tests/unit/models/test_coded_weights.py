"""The bundled checkpoint in every format, coded on its way from the file."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from gemmad.demo import CHECKPOINT
from gemmad.errors import CheckpointError
from gemmad.generation import WeightFormat
from gemmad.kernels.matrices import CodedMatrix, Matrix, decode
from gemmad.models.config import read_config
from gemmad.models.quantising import quantise
from gemmad.models.weights import Weights, load_weights, random_weights
from gemmad.planning.codes import matrix_pieces
from gemmad.planning.coding import Coding

CPU = torch.device("cpu")
CODED: tuple[WeightFormat, ...] = ("int4", "int8", "fp8")
MISSES = {"int4": 0.15, "int8": 0.012, "fp8": 0.03}
"""Largest norm of a matrix's error over its own."""


def load(format: WeightFormat, folder: Path = CHECKPOINT) -> Weights:
    """As a worker on a CPU does."""
    return load_weights(read_config(folder), device=CPU, dtype=torch.float32, format=format)


def matrices(weights: Weights) -> dict[str, Matrix]:
    """All that can be coded, by name."""
    layers = enumerate(weights.layers)
    found = {f"{i}.{name}": getattr(layer, name) for i, layer in layers for name in ("qkv", "o", "gate_up", "down")}
    return {"embedding": weights.embedding, **found}


def numbers(matrix: Matrix) -> torch.Tensor:
    """What a matrix stands for."""
    return decode(matrix) if isinstance(matrix, CodedMatrix) else matrix


@pytest.fixture(scope="module")
def plain() -> Weights:
    """The checkpoint's own numbers."""
    return load("bf16")


@pytest.mark.parametrize("format", CODED)
def test_near_the_checkpoint(format: WeightFormat, plain: Weights) -> None:
    """Each matrix is of the format's kind, the embedding int8, and stands for what the file has, merged parts too."""
    coded = load(format)
    for name, matrix in matrices(coded).items():
        kind = "int8" if name == "embedding" else format
        assert isinstance(matrix, CodedMatrix)
        assert matrix.kind == kind
        expected = matrices(plain)[name]
        assert isinstance(expected, torch.Tensor)
        assert float((decode(matrix) - expected).norm() / expected.norm()) < MISSES[kind]
        alone = quantise(matrix.kind, expected)
        assert all(torch.equal(a, b) for a, b in zip(matrix.tensors(), alone.tensors(), strict=True))


@pytest.mark.parametrize("format", CODED)
def test_what_is_not_coded(format: WeightFormat, plain: Weights) -> None:
    """Norms and the vision tower are the same in every format."""
    coded = load(format)
    assert torch.equal(coded.final_norm, plain.final_norm)
    for ours, theirs in zip(coded.layers, plain.layers, strict=True):
        for name in ("input_norm", "post_attention_norm", "post_feedforward_norm", "q_norm", "k_norm"):
            assert torch.equal(getattr(ours, name), getattr(theirs, name))
    assert coded.tower is not None
    assert plain.tower is not None
    for (_, found), (_, expected) in zip(coded.tower.named_tensors(), plain.tower.named_tensors(), strict=True):
        assert torch.equal(found, expected)


@pytest.mark.parametrize("format", CODED)
def test_bytes_are_counted(format: WeightFormat, plain: Weights) -> None:
    """Weights count codes and scales, to the byte."""
    coded = load(format)
    saved = sum(numbers(matrix).nbytes for matrix in matrices(plain).values())
    sizes = {name: numbers(matrix).shape for name, matrix in matrices(plain).items()}
    kinds: dict[str, Any] = {name: "int8" if name == "embedding" else format for name in sizes}
    taken = sum(sum(matrix_pieces(Coding(kinds[name]), rows, columns)) for name, (rows, columns) in sizes.items())
    assert coded.nbytes == plain.nbytes - saved + taken
    assert (coded.device, coded.dtype) == (CPU, torch.float32)


def test_auto_takes_plain_numbers(plain: Weights) -> None:
    """A checkpoint that comes plain stays so where nobody decides."""
    assert torch.equal(numbers(load("auto").embedding), numbers(plain.embedding))


@pytest.mark.parametrize("format", CODED)
def test_a_matrix_with_an_infinity(tmp_path: Path, format: WeightFormat) -> None:
    """A weight that is infinite is told with file and tensor; as plain numbers it is served as it is."""
    folder = Path(shutil.copytree(CHECKPOINT, tmp_path / "checkpoint"))
    tensors = load_file(folder / "model.safetensors")
    name = next(name for name in tensors if name.endswith("layers.2.mlp.up_proj.weight"))
    tensors[name][5, 7] = float("inf")
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"model\.safetensors: .*layers\.2\.mlp\.up_proj\.weight holds numbers"):
        load(format, folder)
    load("bf16", folder)


def test_columns_that_fill_no_block(tmp_path: Path) -> None:
    """A network whose matrices cannot be cut into blocks is refused with the matrix's name."""
    folder = Path(shutil.copytree(CHECKPOINT, tmp_path / "checkpoint"))
    config = folder / "config.json"
    config.write_text(config.read_text().replace('"intermediate_size": 512', '"intermediate_size": 448'))
    with pytest.raises(CheckpointError, match=r"down_proj\.weight has 448 columns; only multiples of 128 can be kept"):
        load("int8", folder)


@pytest.mark.parametrize("format", CODED)
def test_random_weights_are_the_same_numbers(format: WeightFormat) -> None:
    """Made-up weights of a seed are, in a format, those of the same seed coded; another seed's are others."""
    config = read_config(CHECKPOINT)
    plain, coded = (random_weights(config, device=CPU, dtype=torch.bfloat16, format=f) for f in ("bf16", format))
    other = random_weights(config, device=CPU, dtype=torch.bfloat16, format=format, seed=1)
    for name, matrix in matrices(coded).items():
        assert isinstance(matrix, CodedMatrix)
        alone = quantise(matrix.kind, numbers(matrices(plain)[name]))
        assert torch.equal(matrix.codes, alone.codes)
        assert not torch.equal(matrix.codes, numbers_of(matrices(other)[name]))
    assert coded.dtype == torch.bfloat16


def numbers_of(matrix: Matrix) -> torch.Tensor:
    """A coded matrix's codes."""
    assert isinstance(matrix, CodedMatrix)
    return matrix.codes


BOUNDED = """
import resource, sys, torch
from pathlib import Path
from gemmad.models.config import read_config
from gemmad.models.weights import load_weights
torch.set_num_threads(2)
device = torch.device("cpu")
load_weights(read_config(Path(sys.argv[2])), device=device, dtype=torch.float32, format="int4")
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
weights = load_weights(read_config(Path(sys.argv[1])), device=device, dtype=torch.float32, format="int4")
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print((peak - before) * 1024 - weights.nbytes)
"""
STAGING_BYTES, WORK_BYTES = 2 * (16 << 20), 32 << 20


def test_memory_on_the_way_is_bounded(tmp_path: Path) -> None:
    """An embedding of 256 MiB in bfloat16 needs two readers' buffers and a small workspace beside its codes."""
    folder = Path(shutil.copytree(CHECKPOINT, tmp_path / "checkpoint"))
    config = folder / "config.json"
    config.write_text(config.read_text().replace('"vocab_size": 2048', f'"vocab_size": {1 << 20}'))
    tensors = load_file(folder / "model.safetensors")
    name = next(name for name in tensors if name.endswith("embed_tokens.weight"))
    tensors[name] = torch.zeros(1 << 20, 128, dtype=torch.bfloat16)
    save_file(tensors, folder / "model.safetensors")
    command = [sys.executable, "-c", BOUNDED, str(folder), str(CHECKPOINT)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert int(result.stdout) < STAGING_BYTES + WORK_BYTES
