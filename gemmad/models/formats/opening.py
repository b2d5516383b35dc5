"""Whether a checkpoint comes quantised, and how."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from gemmad.errors import CheckpointError
from gemmad.kernels.matrices import decode
from gemmad.models.config import ModelConfig, TextShape
from gemmad.models.formats.columns import awq_file, gptq_file
from gemmad.models.formats.compressed import MARKS, Fp8Numbers, Source, compressed_source
from gemmad.models.formats.gguf import open_gguf
from gemmad.models.formats.integers import IntegerNumbers, integer_source
from gemmad.models.formats.names import EMBEDDING, MERGED, matrix_shapes
from gemmad.models.formats.source import CodedCheckpoint, MatrixSource, RowSource
from gemmad.models.formats.stored import Parts, read_stored
from gemmad.planning.coded import Quantization, read_quantization
from gemmad.planning.gguf import find_gguf

_Reader = Callable[[Parts, int, int], Source]


def open_coded(folder: Path, config: ModelConfig) -> CodedCheckpoint | None:
    """Every tensor of a checkpoint whose files hold codes, or are GGUF; None: they are safetensors of plain numbers.

    Reads headers and small tensors alone. Raises CheckpointError for files that are missing or broken, and for ways of
    quantising that cannot be read without losing more than they have lost already.
    """
    if (files := find_gguf(folder)) is not None:
        return _settle(open_gguf(files, config), config.text)
    quantization = read_quantization(folder)
    return None if quantization is None else _settle(_open_modules(folder, config, quantization), config.text)


def _open_modules(folder: Path, config: ModelConfig, quantization: Quantization) -> CodedCheckpoint:
    marks, read = _reader(quantization)
    stored, shapes = read_stored(folder, marks), matrix_shapes(config.text)
    coded: dict[str, MatrixSource] = {}
    decoded: dict[str, RowSource] = {}
    for module, parts in stored.modules.items():
        name = f"{module}.weight"
        if (shape := shapes.get(name)) is None:
            _refuse_tower(module, parts)
            continue
        source = read(parts, *shape)
        if isinstance(source, IntegerNumbers | Fp8Numbers):
            decoded[name] = source
        else:
            coded[name] = source
    if not stored.modules:
        raise CheckpointError(f"{folder}: config.json has a quantization_config, and no tensor of the files is coded")
    return CodedCheckpoint(coded, decoded, stored.plain)


def _reader(quantization: Quantization) -> tuple[tuple[str, ...], _Reader]:
    """What a module with codes is known by, and what makes a source of it."""

    def awq(parts: Parts, rows: int, columns: int) -> Source:
        return integer_source(awq_file(parts, rows, columns))

    def gptq(parts: Parts, rows: int, columns: int) -> Source:
        symmetric, added = quantization.symmetric, quantization.zeros_added
        return integer_source(gptq_file(parts, rows, columns, symmetric=symmetric, zeros_added=added))

    readers: Mapping[str, tuple[tuple[str, ...], _Reader]] = {
        "awq": (("qweight",), awq),
        "gptq": (("qweight",), gptq),
        "fp8": (MARKS, compressed_source),
        "compressed-tensors": (MARKS, compressed_source),
    }
    return readers[quantization.quant_method]


def _refuse_tower(module: str, parts: Parts) -> None:
    """A second head is nobody's concern; a coded vision tower is."""
    if module.startswith(("vision_tower.", "multi_modal_projector.")):
        beside = next(iter(parts.values()))
        raise CheckpointError(f"{beside.path}: {beside.name}: the vision tower is quantised, and gemmad keeps it whole")


def _settle(checkpoint: CodedCheckpoint, shape: TextShape) -> CodedCheckpoint:
    """Codes that cannot stay where they would lie become numbers: parts of a merged matrix that differ, and an
    embedding of another kind than int8."""
    coded = dict(checkpoint.coded)
    decoded = dict(checkpoint.decoded)
    loose = [name for name in (EMBEDDING,) if name in coded and coded[name].kind != "int8"]
    loose += _differing(coded, shape)
    for name in loose:
        decoded[name] = DecodedMatrix(coded.pop(name))
    return replace(checkpoint, coded=coded, decoded=decoded)


def _differing(coded: Mapping[str, MatrixSource], shape: TextShape) -> Iterator[str]:
    for layer in range(len(shape.full_layers)):
        for merged in MERGED:
            names = [f"layers.{layer}.{part}" for part in merged]
            layouts = {_layout(coded[name]) if name in coded else None for name in names}
            if len(layouts) > 1:
                yield from (name for name in names if name in coded)


def _layout(source: MatrixSource) -> tuple[object, ...]:
    return source.kind, source.group, source.has_offsets, source.scale_dtype


@dataclass(frozen=True)
class DecodedMatrix:
    """A `RowSource` of codes that cannot stay."""

    source: MatrixSource

    @property
    def name(self) -> str:
        return self.source.name

    @property
    def shape(self) -> tuple[int, ...]:
        return self.source.shape

    def read(self, start: int, stop: int, device: torch.device) -> torch.Tensor:
        return decode(self.source.read(start, stop, device))
