"""Weights from files straight into preallocated, merged matrices: no second copy, nothing in between but the few rows
that are being coded."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

from gemmad.errors import CheckpointError
from gemmad.generation import WeightFormat
from gemmad.kernels.matrices import BLOCK, CodedKind, CodedMatrix, Matrix, empty_coded
from gemmad.logs import get_logger
from gemmad.models.config import ModelConfig, TextShape
from gemmad.models.copies import CodedCopies, name_copy
from gemmad.models.formats.names import EMBEDDING
from gemmad.models.formats.opening import open_coded
from gemmad.models.formats.source import CodedCheckpoint
from gemmad.models.formats.stored import weight_files
from gemmad.models.loading import Filled, Job, Progress, fill
from gemmad.models.precoded import fill_from
from gemmad.models.quantising import code_rows
from gemmad.models.targets import Filling, Target
from gemmad.models.tensorfile import read_header
from gemmad.models.vision import VisionTower, build_tower

_RANDOM_NUMBERS = 8 << 20
"""So many are made up at a time."""
_SPREAD = 0.02
"""Their standard deviation."""

_log = get_logger(__name__)


@dataclass(frozen=True)
class LayerWeights:
    """One layer. Matrices are [out, in]; norms are float32 and hold Gemma's `1 + w`."""

    qkv: Matrix
    o: Matrix
    gate_up: Matrix
    down: Matrix
    input_norm: torch.Tensor
    post_attention_norm: torch.Tensor
    pre_feedforward_norm: torch.Tensor
    post_feedforward_norm: torch.Tensor
    q_norm: torch.Tensor
    k_norm: torch.Tensor


@dataclass(frozen=True)
class Weights:
    """The whole network."""

    embedding: Matrix
    """[vocab, hidden]; also the head."""
    layers: tuple[LayerWeights, ...]
    final_norm: torch.Tensor
    tower: VisionTower | None
    dtype: torch.dtype
    """What is computed in; matrices that are not coded are of it."""

    @property
    def device(self) -> torch.device:
        """Where all of it lies."""
        return self.final_norm.device

    @property
    def format(self) -> WeightFormat:
        """What most of the layers' matrices are kept in; bf16 is `dtype`."""
        matrices = [matrix for layer in self.layers for matrix in (layer.qkv, layer.o, layer.gate_up, layer.down)]
        kinds: list[WeightFormat] = [matrix.kind if isinstance(matrix, CodedMatrix) else "bf16" for matrix in matrices]
        return max(kinds, key=kinds.count)

    @property
    def nbytes(self) -> int:
        """Bytes on the device, codes with their scales."""
        layers: int = sum(each.nbytes for layer in self.layers for each in vars(layer).values())
        return self.embedding.nbytes + self.final_norm.nbytes + layers + (self.tower.nbytes if self.tower else 0)


def load_weights(
    config: ModelConfig,
    *,
    device: torch.device,
    dtype: torch.dtype,
    format: WeightFormat = "bf16",
    copies: CodedCopies | None = None,
    progress: Progress | None = None,
) -> Weights:
    """Allocate and fill. `progress` is called with the share of bytes that are in place.

    `format`: what matrices are kept in; bf16 is `dtype`, and the embedding is int8 in all others. A checkpoint that
    comes coded stays as it is, and its other matrices become int8, whatever `format` says but bf16, for which it is
    decoded. auto is bf16 for one that comes plain. `copies`: where codes are looked for, and else kept, by a thread
    that goes on after this has returned; the caller closes it.

    Raises CheckpointError for files that are missing or broken, tensors that are missing, there twice, of another shape
    or of a kind of number that no weight is read from, and matrices that cannot be coded.
    """
    if progress is not None:
        progress(0.0)
    coded = open_coded(config.folder, config)
    weights = _allocate(config, _codings(format, coded), device, dtype)
    targets = _targets(weights, config.text)
    copied = False
    if coded is not None:
        filled = fill_from(coded, targets, folder=config.folder, device=device, progress=progress)
    else:
        filled, copied = _fill(config, weights, targets, format=format, copies=copies, progress=progress)
    _log.info(
        "weights loaded",
        bytes=filled.nbytes,
        seconds=round(filled.seconds, 3),
        gigabytes_per_second=round(filled.gigabytes_per_second, 2),
        threads=filled.threads,
        format=weights.format,
        from_copy=copied,
        device_bytes=weights.nbytes,
    )
    return weights


def random_weights(
    config: ModelConfig, *, device: torch.device, dtype: torch.dtype, format: WeightFormat = "bf16", seed: int = 0
) -> Weights:
    """A network of the config's shape that says nothing: for measuring without a checkpoint. Norms multiply by one.

    A seed's numbers are the same in each `format`, but for what coding them loses.
    """
    weights = _allocate(config, _codings(format, None), device, dtype)
    generator = torch.Generator(device).manual_seed(seed)
    faults = torch.zeros((), dtype=torch.bool, device=device)
    for target in _targets(weights, config.text).values():
        tensor = target.tensor
        if target.offset:
            assert isinstance(tensor, torch.Tensor), "norms are not coded"
            tensor.fill_(1.0)
            continue
        shape = tuple(tensor.shape)
        step = max(1, _RANDOM_NUMBERS // max(1, torch.Size(shape[1:]).numel()))
        for start in range(0, shape[0], step):
            stop = min(start + step, shape[0])
            if isinstance(tensor, torch.Tensor):
                tensor[start:stop].normal_(0.0, _SPREAD, generator=generator)
                continue
            rows = torch.empty(stop - start, shape[1], device=device, dtype=dtype)
            code_rows(rows.normal_(0.0, _SPREAD, generator=generator), tensor.rows(start, stop), faults)
    return weights


def coded_tensors(weights: Weights) -> dict[str, torch.Tensor]:
    """Codes, scales and offsets of all matrices that have them, by names of their own."""
    matrices = {"embedding": weights.embedding}
    for index, layer in enumerate(weights.layers):
        matrices |= {f"layers.{index}.{name}": getattr(layer, name) for name in ("qkv", "o", "gate_up", "down")}
    coded = {name: matrix for name, matrix in matrices.items() if isinstance(matrix, CodedMatrix)}
    return {
        f"{name}.{part}": tensor
        for name, matrix in coded.items()
        for part, tensor in zip(("codes", "scales", "offsets"), matrix.tensors(), strict=False)
    }


def _fill(
    config: ModelConfig,
    weights: Weights,
    targets: Mapping[str, Target],
    *,
    format: WeightFormat,
    copies: CodedCopies | None,
    progress: Progress | None,
) -> tuple[Filled, bool]:
    """From files of plain numbers; True: codes came from a copy."""
    files = weight_files(config.folder)
    filling = Filling(config.folder, targets, device=weights.device)
    jobs = filling.jobs([tensor for path in files for tensor in read_header(path)])
    coded = coded_tensors(weights)
    name = name_copy(config.folder, files, format=format)
    found = copies.jobs(name, coded) if copies is not None and coded else None
    if copies is not None and found is not None:
        try:
            filled = fill(
                [*found, *(job for job in jobs if isinstance(job, Job))], device=weights.device, progress=progress
            )
        except CheckpointError as error:
            _log.warning("a copy of coded weights could not be read", reason=str(error))
            copies.discard(name)
        else:
            filling.finish()
            return filled, True
    filled = fill(jobs, device=weights.device, progress=progress)
    filling.finish()
    if copies is not None and coded:
        copies.keep(name, coded)
    return filled, False


@dataclass(frozen=True)
class _Coding:
    """How a matrix is kept."""

    kind: CodedKind
    group: int = BLOCK
    scale_dtype: torch.dtype = torch.float16
    offsets: bool = False


_KINDS: dict[WeightFormat, CodedKind] = {"fp8": "fp8", "int8": "int8", "int4": "int4"}
_Codings = Callable[[str], _Coding | None]
"""By the name of a matrix, or of the first of those that are merged; None: plain numbers."""


def _codings(format: WeightFormat, coded: CodedCheckpoint | None) -> _Codings:
    def own(name: str) -> _Coding | None:
        assert coded is not None
        if (source := coded.coded.get(name)) is None:
            return _Coding("int8")
        return _Coding(source.kind, source.group, source.scale_dtype, source.has_offsets)

    def wanted(name: str) -> _Coding | None:
        kind = _KINDS.get(format)
        return None if kind is None else _Coding("int8" if name == EMBEDDING else kind)

    comes_coded = coded is not None and bool(coded.coded or coded.decoded)
    return own if comes_coded and format != "bf16" else wanted


def _allocate(config: ModelConfig, codings: _Codings, device: torch.device, dtype: torch.dtype) -> Weights:
    shape = config.text

    def matrix(name: str, rows: int, columns: int) -> Matrix:
        coding = codings(name)
        if coding is None:
            return torch.empty(rows, columns, device=device, dtype=dtype)
        if columns % BLOCK:
            raise CheckpointError(
                f"{config.folder}: {name} has {columns} columns; only multiples of {BLOCK} can be kept as {coding.kind}"
            )
        return empty_coded(
            coding.kind,
            rows,
            columns,
            device=device,
            group=coding.group,
            scale_dtype=coding.scale_dtype,
            offsets=coding.offsets,
        )

    def norm(size: int) -> torch.Tensor:
        return torch.empty(size, device=device, dtype=torch.float32)

    def layer(index: int) -> LayerWeights:
        name = f"layers.{index}"
        return LayerWeights(
            qkv=matrix(f"{name}.self_attn.q_proj.weight", shape.qkv_size, shape.hidden_size),
            o=matrix(f"{name}.self_attn.o_proj.weight", shape.hidden_size, shape.heads * shape.head_dim),
            gate_up=matrix(f"{name}.mlp.gate_proj.weight", 2 * shape.intermediate_size, shape.hidden_size),
            down=matrix(f"{name}.mlp.down_proj.weight", shape.hidden_size, shape.intermediate_size),
            input_norm=norm(shape.hidden_size),
            post_attention_norm=norm(shape.hidden_size),
            pre_feedforward_norm=norm(shape.hidden_size),
            post_feedforward_norm=norm(shape.hidden_size),
            q_norm=norm(shape.head_dim),
            k_norm=norm(shape.head_dim),
        )

    layers = tuple(layer(index) for index in range(len(shape.full_layers)))
    tower = build_tower(config, device=device, dtype=dtype) if config.vision is not None else None
    embedding = matrix(EMBEDDING, shape.vocab_size, shape.hidden_size)
    return Weights(embedding, layers, norm(shape.hidden_size), tower, dtype)


def _targets(weights: Weights, shape: TextShape) -> dict[str, Target]:
    targets = {EMBEDDING: Target(weights.embedding), "norm.weight": Target(weights.final_norm, 1.0)}
    for index, layer in enumerate(weights.layers):
        targets |= {f"layers.{index}.{name}": target for name, target in _layer_targets(layer, shape).items()}
    if weights.tower is not None:
        targets |= {name: Target(tensor) for name, tensor in weights.tower.named_tensors()}
    return targets


def _layer_targets(layer: LayerWeights, shape: TextShape) -> dict[str, Target]:
    q_rows, kv_rows = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    q, k, v = _split(layer.qkv, q_rows, kv_rows, kv_rows)
    gate, up = _split(layer.gate_up, shape.intermediate_size, shape.intermediate_size)
    return {
        "self_attn.q_proj.weight": Target(q),
        "self_attn.k_proj.weight": Target(k),
        "self_attn.v_proj.weight": Target(v),
        "self_attn.o_proj.weight": Target(layer.o),
        "self_attn.q_norm.weight": Target(layer.q_norm, 1.0),
        "self_attn.k_norm.weight": Target(layer.k_norm, 1.0),
        "mlp.gate_proj.weight": Target(gate),
        "mlp.up_proj.weight": Target(up),
        "mlp.down_proj.weight": Target(layer.down),
        "input_layernorm.weight": Target(layer.input_norm, 1.0),
        "post_attention_layernorm.weight": Target(layer.post_attention_norm, 1.0),
        "pre_feedforward_layernorm.weight": Target(layer.pre_feedforward_norm, 1.0),
        "post_feedforward_layernorm.weight": Target(layer.post_feedforward_norm, 1.0),
    }


def _split(matrix: Matrix, *counts: int) -> list[Matrix]:
    """Views of so many rows each, one after the other."""
    parts, start = [], 0
    for count in counts:
        stop = start + count
        parts.append(matrix[start:stop] if isinstance(matrix, torch.Tensor) else matrix.rows(start, stop))
        start = stop
    return parts
