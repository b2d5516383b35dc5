"""Weights from safetensors straight into preallocated, merged tensors: no second copy, no module of transformers'
in between, except for the vision tower, whose module transformers builds empty and this fills."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open

from gemmad.errors import CheckpointError
from gemmad.models.config import ModelConfig, TextShape
from gemmad.models.vision import VisionTower, build_tower

Progress = Callable[[float], None]


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

    Raises CheckpointError for files that are missing or broken, tensors that are missing or of another shape.
    """
    weights = _allocate(config, device, dtype)
    targets = _targets(weights, config.text)
    files = _files(config.folder)
    total = sum(path.stat().st_size for path in files)
    done = 0
    for path in files:
        for name, tensor in _tensors(path):
            target = targets.pop(_plain_name(name), None)
            if target is not None:
                target.fill(name, tensor)
            done += tensor.nbytes
            if progress is not None:
                progress(min(done / total, 1.0))
    if targets:
        missing = sorted(targets)
        raise CheckpointError(f"{config.folder}: {len(missing)} tensors are missing, the first is {missing[0]}")
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

    def fill(self, name: str, source: torch.Tensor) -> None:
        if source.shape != self.tensor.shape:
            raise CheckpointError(f"{name} is {list(source.shape)}, the config asks for {list(self.tensor.shape)}")
        self.tensor.copy_(source)
        if self.offset:
            self.tensor.add_(self.offset)


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


def _plain_name(name: str) -> str:
    """The same tensor has had several names on the hub (`language_model.model.…`, `model.language_model.…`)."""
    words = [word for word in name.split(".") if word not in ("model", "language_model", "vision_model")]
    return ".".join(words)


def _files(folder: Path) -> list[Path]:
    index = folder / "model.safetensors.index.json"
    single = folder / "model.safetensors"
    if index.exists():
        try:
            names = sorted(set(json.loads(index.read_text("utf-8"))["weight_map"].values()))
        except (OSError, ValueError, KeyError, AttributeError) as error:
            raise CheckpointError(f"{index} cannot be read: {error!r}") from error
        files = [folder / str(name) for name in names]
    else:
        files = [single]
    for path in files:
        if not path.is_file():
            raise CheckpointError(f"{path} is missing: the checkpoint has no weights there")
    return files


def _tensors(path: Path) -> Iterator[tuple[str, torch.Tensor]]:
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            for name in file.keys():  # noqa: SIM118  (safe_open is no mapping)
                yield name, file.get_tensor(name)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} is broken: {error}") from error
