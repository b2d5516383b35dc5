"""An engine's weights under the names that checkpoints give them: views of the merged tensors, no second copy but of
matrices that are coded, which are decoded."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors.torch import save_file

from gemmad.kernels.matrices import Matrix, decode
from gemmad.models.config import ModelConfig, TextShape
from gemmad.models.weights import LayerWeights, Weights

SHARD_BYTES = 4 << 30


def text_tensors(shape: TextShape, weights: Weights) -> Iterator[tuple[str, torch.Tensor]]:
    """Name as in Gemma3TextModel, and tensor in the dtype that is computed in. Norms are given as files have them, `w`
    of `1 + w`; they are copies, as are matrices that were coded."""
    yield "embed_tokens.weight", _numbers(weights.embedding, weights.dtype)
    for index, layer in enumerate(weights.layers):
        for name, tensor in _layer_tensors(shape, layer, weights.dtype):
            yield f"layers.{index}.{name}", tensor
    yield "norm.weight", _as_stored(weights.final_norm, weights.dtype)


def write_checkpoint(config: ModelConfig, weights: Weights, folder: Path) -> int:
    """Write safetensors beside the config.json of `folder`, in shards as the hub has them; returns the bytes."""
    prefix = "model." if config.vision is None else "model.language_model."
    tensors = [(prefix + name, tensor) for name, tensor in text_tensors(config.text, weights)]
    if weights.tower is not None:
        tensors += [(f"model.{name}", tensor) for name, tensor in weights.tower.named_tensors()]
    shards = _shards(tensors)
    names: dict[str, str] = {}
    for number, shard in enumerate(shards, start=1):
        file = f"model-{number:05}-of-{len(shards):05}.safetensors"
        # One shard at a time in the host's memory.
        save_file({name: tensor.to("cpu").contiguous() for name, tensor in shard}, folder / file)
        names |= dict.fromkeys((name for name, _ in shard), file)
    total = sum(tensor.nbytes for _, tensor in tensors)
    index = {"metadata": {"total_size": total}, "weight_map": names}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index), "utf-8")
    return total


def _layer_tensors(shape: TextShape, layer: LayerWeights, dtype: torch.dtype) -> Iterator[tuple[str, torch.Tensor]]:
    rows, qkv = shape.kv_heads * shape.head_dim, _numbers(layer.qkv, dtype)
    for name, part in zip("qkv", torch.split(qkv, [shape.heads * shape.head_dim, rows, rows]), strict=True):
        yield f"self_attn.{name}_proj.weight", part
    yield "self_attn.o_proj.weight", _numbers(layer.o, dtype)
    for name, part in zip(("gate", "up"), _numbers(layer.gate_up, dtype).chunk(2), strict=True):
        yield f"mlp.{name}_proj.weight", part
    yield "mlp.down_proj.weight", _numbers(layer.down, dtype)
    for name, norm in (
        ("self_attn.q_norm", layer.q_norm),
        ("self_attn.k_norm", layer.k_norm),
        ("input_layernorm", layer.input_norm),
        ("post_attention_layernorm", layer.post_attention_norm),
        ("pre_feedforward_layernorm", layer.pre_feedforward_norm),
        ("post_feedforward_layernorm", layer.post_feedforward_norm),
    ):
        yield f"{name}.weight", _as_stored(norm, dtype)


def _numbers(matrix: Matrix, dtype: torch.dtype) -> torch.Tensor:
    return matrix if isinstance(matrix, torch.Tensor) else decode(matrix, dtype)


def _as_stored(norm: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    return (norm - 1.0).to(dtype)


def _shards(tensors: list[tuple[str, torch.Tensor]]) -> list[list[tuple[str, torch.Tensor]]]:
    shards: list[list[tuple[str, torch.Tensor]]] = [[]]
    size = 0
    for name, tensor in tensors:
        if shards[-1] and size + tensor.nbytes > SHARD_BYTES:
            shards.append([])
            size = 0
        shards[-1].append((name, tensor))
        size += tensor.nbytes
    return shards
