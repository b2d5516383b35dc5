"""Checkpoints that come quantised: codes stay as they are, and what is none finds its place too."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from gemmad.errors import CheckpointError
from gemmad.generation import WeightFormat
from gemmad.kernels.matrices import CodedKind, CodedMatrix, decode, empty_coded
from gemmad.models.formats.source import CodedCheckpoint
from gemmad.models.precoded import fill_from
from gemmad.models.quantising import quantise
from gemmad.models.targets import Target
from gemmad.models.tensorfile import StoredTensor, read_header
from gemmad.models.weights import load_weights
from tests.unit.models.formats.checkpoints import write_config, write_modules

CPU = torch.device("cpu")
ROWS = torch.randn(40_000, 256, generator=torch.Generator().manual_seed(0))
"""Several pieces."""


@dataclass(frozen=True)
class Codes:
    """A matrix of codes that lies in memory."""

    matrix: CodedMatrix
    name: str = "codes in memory"
    asked: list[tuple[int, int]] = field(default_factory=list)

    @property
    def shape(self) -> tuple[int, int]:
        """(N, K)."""
        return self.matrix.shape

    @property
    def kind(self) -> CodedKind:
        """Of the codes."""
        return self.matrix.kind

    @property
    def group(self) -> int:
        """Columns that one scale serves."""
        return self.matrix.group

    @property
    def has_offsets(self) -> bool:
        """Whether there are any."""
        return self.matrix.offsets is not None

    @property
    def scale_dtype(self) -> torch.dtype:
        """Of scales."""
        return self.matrix.scales.dtype

    def read(self, start: int, stop: int, device: torch.device) -> CodedMatrix:
        """Some rows."""
        self.asked.append((start, stop))
        return self.matrix.rows(start, stop)


@dataclass(frozen=True)
class Numbers:
    """A tensor that had to be computed."""

    tensor: torch.Tensor
    name: str = "numbers in memory"

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the tensor."""
        return tuple(self.tensor.shape)

    def read(self, start: int, stop: int, device: torch.device) -> torch.Tensor:
        """Some rows."""
        return self.tensor[start:stop]


def load(checkpoint: CodedCheckpoint, targets: Mapping[str, Target], folder: Path) -> list[float]:
    """Fill; the shares that were told."""
    told: list[float] = []
    fill_from(checkpoint, targets, folder=folder, device=CPU, progress=told.append)
    assert (told, told[-1]) == (sorted(told), 1.0)
    return told


def empty(kind: CodedKind, **how: object) -> CodedMatrix:
    """Room for ROWS."""
    return empty_coded(kind, *ROWS.shape, device=CPU, **how)  # type: ignore[arg-type]


@pytest.mark.parametrize(("kind", "group"), [("int4", 32), ("int4", 128), ("int8", 128), ("fp8", 128)])
def test_codes_as_they_are(kind: CodedKind, group: int, tmp_path: Path) -> None:
    """They arrive in their own kind, group, scales and offsets, every row once, to the bit."""
    matrix = quantise(kind, ROWS, group=group)
    if group == 32:
        matrix = CodedMatrix(kind, matrix.codes, matrix.scales, torch.randn_like(matrix.scales))
    source, into = Codes(matrix), empty(kind, group=group, offsets=group == 32)
    load(CodedCheckpoint({"a": source}), {"a": Target(into)}, tmp_path)
    assert all(torch.equal(a, b) for a, b in zip(matrix.tensors(), into.tensors(), strict=True))
    asked = sorted(source.asked)
    assert len(asked) > 1
    assert [row for start, stop in asked for row in range(start, stop)] == list(range(len(ROWS)))


def test_decoded_where_plain_numbers_are_wanted(tmp_path: Path) -> None:
    """bf16 of a coded checkpoint is what its codes stand for."""
    matrix, into = quantise("int4", ROWS), torch.empty(ROWS.shape, dtype=torch.bfloat16)
    load(CodedCheckpoint({"a": Codes(matrix)}), {"a": Target(into)}, tmp_path)
    assert torch.equal(into, decode(matrix, torch.bfloat16))


def test_coded_anew(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Numbers of a layout that is not computed with become int8, which is logged once."""
    caplog.set_level("INFO")
    into = {name: empty("int8") for name in ("a", "b")}
    sources = {name: Numbers(ROWS) for name in into}
    load(CodedCheckpoint({}, sources), {name: Target(matrix) for name, matrix in into.items()}, tmp_path)
    expected = quantise("int8", ROWS)
    for matrix in into.values():
        assert all(torch.equal(a, b) for a, b in zip(matrix.tensors(), expected.tensors(), strict=True))
    (line,) = [record.msg for record in caplog.records if "coded anew" in str(record.msg)]
    assert isinstance(line, dict)
    assert (line["matrices"], line["kind"]) == (2, "int8")


def test_a_matrix_that_cannot_be_coded(tmp_path: Path) -> None:
    """An infinity among decoded numbers is told with the source's name."""
    rows = ROWS.clone()
    rows[30_000, 3] = float("nan")
    with pytest.raises(CheckpointError, match="numbers in memory holds numbers that are infinite"):
        load(CodedCheckpoint({}, {"a": Numbers(rows)}), {"a": Target(empty("int8"))}, tmp_path)


@pytest.mark.parametrize("hold_one", [False, True])
def test_norms(tmp_path: Path, hold_one: bool) -> None:
    """Gemma's 1 is added once, wherever a norm comes from, unless the files hold it already."""
    norms = {name: torch.linspace(-1, 1, 64) for name in ("a", "b")}
    into = {name: torch.empty(64) for name in norms}
    checkpoint = CodedCheckpoint({}, {"a": Numbers(norms["a"])}, stored(tmp_path, b=norms["b"]), hold_one)
    load(checkpoint, {name: Target(tensor, 1.0) for name, tensor in into.items()}, tmp_path)
    for name, tensor in into.items():
        assert torch.equal(tensor, norms[name] + (0.0 if hold_one else 1.0))


def test_plain_tensors_beside(tmp_path: Path) -> None:
    """What the files hold as plain numbers is read as of any checkpoint, and coded where codes are wanted."""
    whole, part = empty("int8"), torch.empty(7, 5, dtype=torch.bfloat16)
    plain = stored(tmp_path, whole=ROWS, part=torch.ones(7, 5))
    matrix, into = quantise("fp8", ROWS), empty("fp8")
    targets = {"coded": Target(into), "whole": Target(whole), "part": Target(part)}
    load(CodedCheckpoint({"coded": Codes(matrix)}, plain=plain), targets, tmp_path)
    assert torch.equal(whole.codes, quantise("int8", ROWS).codes)
    assert torch.equal(into.codes, matrix.codes)
    assert bool((part == 1).all())


def test_what_is_missing(tmp_path: Path) -> None:
    """A tensor that is nowhere is told before anything is read."""
    source = Codes(quantise("int8", ROWS))
    targets = {"a": Target(empty("int8")), "b": Target(torch.empty(3))}
    with pytest.raises(CheckpointError, match="1 tensors are missing, the first is b"):
        load(CodedCheckpoint({"a": source}), targets, tmp_path)
    assert not source.asked


def stored(folder: Path, **tensors: torch.Tensor) -> tuple[StoredTensor, ...]:
    """A file with these."""
    save_file(tensors, folder / "model.safetensors")
    return read_header(folder / "model.safetensors")


W8A16 = {
    "quant_method": "compressed-tensors",
    "format": "int-quantized",
    "config_groups": {
        "group_0": {
            "targets": ["Linear"],
            "weights": {"num_bits": 8, "type": "int", "symmetric": True, "strategy": "channel"},
        }
    },
}


def w8a16(rows: int, columns: int) -> dict[str, torch.Tensor]:
    """A module of compressed-tensors with codes of 8 bits."""
    return {
        "weight": torch.randint(-127, 128, (rows, columns)).to(torch.int8),
        "weight_scale": torch.rand(rows, 1) / 99,
    }


@pytest.mark.parametrize("format", ["auto", "int4", "fp8", "int8"])
def test_a_whole_checkpoint_stays_as_it_comes(tmp_path: Path, format: WeightFormat) -> None:
    """Whatever format is asked for, codes are the file's; the embedding, plain numbers there, becomes int8."""
    config = write_config(tmp_path, W8A16)
    made = write_modules(tmp_path, config, w8a16)
    weights = load_weights(config, device=CPU, dtype=torch.float32, format=format)
    assert weights.format == "int8"
    for name, matrix in (("self_attn.o_proj", weights.layers[1].o), ("mlp.down_proj", weights.layers[1].down)):
        module = made[f"layers.1.{name}.weight"]
        assert isinstance(matrix, CodedMatrix)
        assert torch.equal(decode(matrix), module["weight"].float() * module["weight_scale"])
    assert isinstance(weights.embedding, CodedMatrix)
    expected = quantise("int8", made["embed_tokens.weight"])
    assert torch.equal(weights.embedding.codes, expected.codes)


def test_a_whole_checkpoint_decoded(tmp_path: Path) -> None:
    """bf16 is what the codes stand for, merged parts side by side."""
    config = write_config(tmp_path, W8A16)
    made = write_modules(tmp_path, config, w8a16)
    weights = load_weights(config, device=CPU, dtype=torch.float32, format="bf16")
    assert weights.format == "bf16"
    parts = [made[f"layers.0.self_attn.{name}_proj.weight"] for name in "qkv"]
    assert isinstance(weights.layers[0].qkv, torch.Tensor)
    assert torch.equal(weights.layers[0].qkv, torch.cat([m["weight"].float() * m["weight_scale"] for m in parts]))
