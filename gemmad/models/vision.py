"""The vision tower: SigLIP's encoder (https://arxiv.org/abs/2303.15343) and Gemma 3's projector, pixels to rows.

The same numbers as transformers' SiglipVisionModel and Gemma3MultiModalProjector, which tests hold it to. It is written
out here because importing those two takes longer than reading the weights of a 12B model: they bring torch's compiler
and its distributed package with them. Patches go through a matrix product instead of a convolution, which is the same
sum; so cuDNN is never loaded for it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from gemmad.models.config import ModelConfig, VisionShape


@dataclass(frozen=True)
class _Affine:
    """A matrix [out, in] with its bias [out], or a LayerNorm's two vectors."""

    weight: torch.Tensor
    bias: torch.Tensor

    def linear(self, rows: torch.Tensor) -> torch.Tensor:
        """[…, in] → […, out]."""
        return F.linear(rows, self.weight.flatten(1), self.bias)

    def norm(self, rows: torch.Tensor, eps: float) -> torch.Tensor:
        """LayerNorm over the last dimension."""
        return F.layer_norm(rows, self.weight.shape, self.weight, self.bias, eps)


@dataclass(frozen=True)
class _Layer:
    """One of the encoder's."""

    layer_norm1: _Affine
    q_proj: _Affine
    k_proj: _Affine
    v_proj: _Affine
    out_proj: _Affine
    layer_norm2: _Affine
    fc1: _Affine
    fc2: _Affine


class VisionTower:
    """Pixels to rows of the language network. Its weights are whatever was in the memory until somebody fills them."""

    def __init__(self, shape: VisionShape, *, tokens: int, hidden_size: int, new: _Allocator) -> None:
        """`tokens`: of one picture; `hidden_size`: the language network's."""
        width, patches = shape.hidden_size, (shape.image_size // shape.patch_size) ** 2
        self._shape = shape
        self._tokens = tokens
        self._named = new.named
        embeddings, layers = "vision_tower.embeddings", "vision_tower.encoder.layers"
        self._patch = new.affine(
            f"{embeddings}.patch_embedding", width, shape.num_channels, shape.patch_size, shape.patch_size
        )
        self._position = new.tensor(f"{embeddings}.position_embedding.weight", patches, width)
        self._layers = tuple(_layer(shape, new, f"{layers}.{index}") for index in range(shape.num_hidden_layers))
        self._post_layernorm = new.affine("vision_tower.post_layernorm", width)
        self._soft_norm = new.tensor("multi_modal_projector.mm_soft_emb_norm.weight", width)
        self._projection = new.tensor("multi_modal_projector.mm_input_projection_weight", width, hidden_size)

    @torch.inference_mode()
    def encode(self, pixels: torch.Tensor) -> torch.Tensor:
        """pixels [N, channels, side, side] in the model's dtype, normalised → [N, image tokens, hidden]."""
        rows = self._embed(pixels)
        for layer in self._layers:
            rows = rows + self._attend(layer, layer.layer_norm1.norm(rows, self._shape.layer_norm_eps))
            wide = layer.fc1.linear(layer.layer_norm2.norm(rows, self._shape.layer_norm_eps))
            rows = rows + layer.fc2.linear(F.gelu(wide, approximate="tanh"))
        return self._project(self._post_layernorm.norm(rows, self._shape.layer_norm_eps))

    @property
    def nbytes(self) -> int:
        """Bytes of its weights."""
        return sum(tensor.nbytes for tensor in self._named.values())

    def named_tensors(self) -> Iterator[tuple[str, torch.Tensor]]:
        """Every weight under the name that `models.weights` looks for."""
        yield from self._named.items()

    def _embed(self, pixels: torch.Tensor) -> torch.Tensor:
        """Each patch's pixels times a matrix, plus what stands for its place → [N, patches, width]."""
        count, channels, height, width = pixels.shape
        side = self._shape.patch_size
        patches = pixels.reshape(count, channels, height // side, side, width // side, side)
        patches = patches.permute(0, 2, 4, 1, 3, 5).reshape(count, -1, channels * side * side)
        return self._patch.linear(patches) + self._position

    def _attend(self, layer: _Layer, rows: torch.Tensor) -> torch.Tensor:
        """softmax(q·kᵀ / √head size)·v of every patch to every patch."""
        count, patches, width = rows.shape
        heads = self._shape.num_attention_heads
        q, k, v = (
            projection.linear(rows).view(count, patches, heads, width // heads).transpose(1, 2)
            for projection in (layer.q_proj, layer.k_proj, layer.v_proj)
        )
        seen = F.scaled_dot_product_attention(q, k, v)
        return layer.out_proj.linear(seen.transpose(1, 2).reshape(count, patches, width))

    def _project(self, rows: torch.Tensor) -> torch.Tensor:
        """The mean over squares of patches, x / √(mean x² + ε) · (1 + w) in float32, and a matrix."""
        count, _, width = rows.shape
        per_side = self._shape.image_size // self._shape.patch_size
        grid = rows.transpose(1, 2).reshape(count, width, per_side, per_side)
        pooled = F.avg_pool2d(grid, per_side // round(self._tokens**0.5)).flatten(2).transpose(1, 2).float()
        normed = pooled * torch.rsqrt(pooled.pow(2).mean(-1, keepdim=True) + self._shape.layer_norm_eps)
        return (normed * (1.0 + self._soft_norm.float())).to(rows.dtype) @ self._projection


class _Allocator:
    """Takes memory for tensors, and keeps them by name."""

    def __init__(self, device: torch.device, dtype: torch.dtype) -> None:
        self.named: dict[str, torch.Tensor] = {}
        self._device = device
        self._dtype = dtype

    def tensor(self, name: str, *shape: int) -> torch.Tensor:
        self.named[name] = torch.empty(shape, device=self._device, dtype=self._dtype)
        return self.named[name]

    def affine(self, name: str, *shape: int) -> _Affine:
        return _Affine(self.tensor(f"{name}.weight", *shape), self.tensor(f"{name}.bias", shape[0]))


def build_tower(config: ModelConfig, *, device: torch.device, dtype: torch.dtype) -> VisionTower:
    """Allocate the tower of a checkpoint that has one."""
    assert config.vision is not None
    return VisionTower(
        config.vision, tokens=config.image_tokens, hidden_size=config.text.hidden_size, new=_Allocator(device, dtype)
    )


def _layer(shape: VisionShape, new: _Allocator, name: str) -> _Layer:
    width, inner = shape.hidden_size, shape.intermediate_size
    return _Layer(
        layer_norm1=new.affine(f"{name}.layer_norm1", width),
        q_proj=new.affine(f"{name}.self_attn.q_proj", width, width),
        k_proj=new.affine(f"{name}.self_attn.k_proj", width, width),
        v_proj=new.affine(f"{name}.self_attn.v_proj", width, width),
        out_proj=new.affine(f"{name}.self_attn.out_proj", width, width),
        layer_norm2=new.affine(f"{name}.layer_norm2", width),
        fc1=new.affine(f"{name}.mlp.fc1", inner, width),
        fc2=new.affine(f"{name}.mlp.fc2", width, inner),
    )
