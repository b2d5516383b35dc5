"""Weights from safetensors straight into preallocated, merged tensors: no second copy, nothing in between."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch

from gemmad.errors import CheckpointError
from gemmad.logs import get_logger
from gemmad.models.config import ModelConfig, TextShape
from gemmad.models.loading import Job, Progress, fill
from gemmad.models.tensorfile import StoredTensor, read_header
from gemmad.models.vision import VisionTower, build_tower

_log = get_logger(__name__)


@dataclass(frozen=True)
class LayerWeights:
    """One layer. Matrices are [out, in] in the model's dtype; norms are float32 and hold Gemma's `1 + w`."""

    qkv: torch.Tensor
    o: torch.Tensor
    gate_up: torch.Tensor
    down: torch.Tensor
    input_norm: torch.Tensor
    post_attention_norm: torch.Tensor
    pre_feedforward_norm: torch.Tensor
    post_feedforward_norm: torch.Tensor
    q_norm: torch.Tensor
    k_norm: torch.Tensor


@dataclass(frozen=True)
class Weights:
    """The whole network."""

    embedding: torch.Tensor
    """[vocab, hidden]; also the head."""
    layers: tuple[LayerWeights, ...]
    final_norm: torch.Tensor
    tower: VisionTower | None

    @property
    def nbytes(self) -> int:
        """Bytes on the device."""
        layers: int = sum(tensor.nbytes for layer in self.layers for tensor in vars(layer).values())
        return self.embedding.nbytes + self.final_norm.nbytes + layers + (self.tower.nbytes if self.tower else 0)


def load_weights(
    config: ModelConfig, *, device: torch.device, dtype: torch.dtype, progress: Progress | None = None
) -> Weights:
    """Allocate and fill. `progress` is called with the share of bytes that are in place.

    Raises CheckpointError for files that are missing or broken, tensors that are missing, there twice, of another shape
    or of a kind of number that no weight is read from.
    """
    if progress is not None:
        progress(0.0)
    stored = [tensor for path in _files(config.folder) for tensor in read_header(path)]
    weights = _allocate(config, device, dtype)
    targets = _targets(weights, config.text)
    filled = fill(_jobs(config.folder, stored, targets), device=device, progress=progress)
    for target in targets.values():
        if target.offset:
            target.tensor.add_(target.offset)
    _log.info(
        "weights loaded",
        bytes=filled.nbytes,
        seconds=round(filled.seconds, 3),
        gigabytes_per_second=round(filled.gigabytes_per_second, 2),
        threads=filled.threads,
    )
    return weights


def random_weights(config: ModelConfig, *, device: torch.device, dtype: torch.dtype, seed: int = 0) -> Weights:
    """A network of the config's shape that says nothing: for measuring without a checkpoint. Norms multiply by one."""
    weights = _allocate(config, device, dtype)
    generator = torch.Generator(device).manual_seed(seed)
    for target in _targets(weights, config.text).values():
        if target.offset:
            target.tensor.fill_(1.0)
        else:
            target.tensor.normal_(0.0, 0.02, generator=generator)
    return weights


@dataclass(frozen=True)
class _Target:
    """Where one tensor of a file goes."""

    tensor: torch.Tensor
    offset: float = 0.0
    """Added in float32: Gemma's norms multiply by 1 + w."""


def _allocate(config: ModelConfig, device: torch.device, dtype: torch.dtype) -> Weights:
    shape = config.text

    def matrix(rows: int, columns: int) -> torch.Tensor:
        return torch.empty(rows, columns, device=device, dtype=dtype)

    def norm(size: int) -> torch.Tensor:
        return torch.empty(size, device=device, dtype=torch.float32)

    layers = tuple(
        LayerWeights(
            qkv=matrix(shape.qkv_size, shape.hidden_size),
            o=matrix(shape.hidden_size, shape.heads * shape.head_dim),
            gate_up=matrix(2 * shape.intermediate_size, shape.hidden_size),
            down=matrix(shape.hidden_size, shape.intermediate_size),
            input_norm=norm(shape.hidden_size),
            post_attention_norm=norm(shape.hidden_size),
            pre_feedforward_norm=norm(shape.hidden_size),
            post_feedforward_norm=norm(shape.hidden_size),
            q_norm=norm(shape.head_dim),
            k_norm=norm(shape.head_dim),
        )
        for _ in shape.full_layers
    )
    tower = build_tower(config, device=device, dtype=dtype) if config.vision is not None else None
    return Weights(matrix(shape.vocab_size, shape.hidden_size), layers, norm(shape.hidden_size), tower)


def _targets(weights: Weights, shape: TextShape) -> dict[str, _Target]:
    targets = {"embed_tokens.weight": _Target(weights.embedding), "norm.weight": _Target(weights.final_norm, 1.0)}
    for index, layer in enumerate(weights.layers):
        targets |= {f"layers.{index}.{name}": target for name, target in _layer_targets(layer, shape).items()}
    if weights.tower is not None:
        targets |= {name: _Target(tensor) for name, tensor in weights.tower.named_tensors()}
    return targets


def _layer_targets(layer: LayerWeights, shape: TextShape) -> dict[str, _Target]:
    q_rows, kv_rows = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    q, k, v = torch.tensor_split(layer.qkv, (q_rows, q_rows + kv_rows))
    gate, up = torch.tensor_split(layer.gate_up, 2)
    return {
        "self_attn.q_proj.weight": _Target(q),
        "self_attn.k_proj.weight": _Target(k),
        "self_attn.v_proj.weight": _Target(v),
        "self_attn.o_proj.weight": _Target(layer.o),
        "self_attn.q_norm.weight": _Target(layer.q_norm, 1.0),
        "self_attn.k_norm.weight": _Target(layer.k_norm, 1.0),
        "mlp.gate_proj.weight": _Target(gate),
        "mlp.up_proj.weight": _Target(up),
        "mlp.down_proj.weight": _Target(layer.down),
        "input_layernorm.weight": _Target(layer.input_norm, 1.0),
        "post_attention_layernorm.weight": _Target(layer.post_attention_norm, 1.0),
        "pre_feedforward_layernorm.weight": _Target(layer.pre_feedforward_norm, 1.0),
        "post_feedforward_layernorm.weight": _Target(layer.post_feedforward_norm, 1.0),
    }


def _jobs(folder: Path, stored: Iterable[StoredTensor], targets: dict[str, _Target]) -> list[Job]:
    """What of the files goes where; all else in them stays there."""
    jobs: dict[str, Job] = {}
    for source in stored:
        name = _plain_name(source.name)
        if name not in targets:
            continue
        target = targets[name].tensor
        if name in jobs:
            other = jobs[name].source
            raise CheckpointError(f"{source.path}: {source.name} is there twice, also as {other.name} in {other.path}")
        if source.shape != target.shape:
            found, wanted = list(source.shape), list(target.shape)
            raise CheckpointError(f"{source.path}: {source.name} is {found}, the config asks for {wanted}")
        jobs[name] = Job(source, source.dtype, target)
    if missing := sorted(targets.keys() - jobs.keys()):
        raise CheckpointError(f"{folder}: {len(missing)} tensors are missing, the first is {missing[0]}")
    return list(jobs.values())


def _plain_name(name: str) -> str:
    """The same tensor has had several names on the hub (`language_model.model.…`, `model.language_model.…`)."""
    words = [word for word in name.split(".") if word not in ("model", "language_model", "vision_model")]
    return ".".join(words)


def _files(folder: Path) -> list[Path]:
    index = folder / "model.safetensors.index.json"
    single = folder / "model.safetensors"
    if index.exists():
        try:
            names = sorted({str(name) for name in json.loads(index.read_text("utf-8"))["weight_map"].values()})
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise CheckpointError(f"{index} cannot be read: {error!r}") from error
        if strange := next((name for name in names if Path(name).name != name), None):
            raise CheckpointError(f"{index} names {strange!r}, which is no file beside it")
        files = [folder / name for name in names]
    else:
        files = [single]
    for path in files:
        if not path.is_file():
            raise CheckpointError(f"{path} is missing: the checkpoint has no weights there")
    return files
