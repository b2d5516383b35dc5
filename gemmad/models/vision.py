"""The vision tower: transformers' SigLIP and Gemma 3's projector, built empty and filled by `models.weights`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from gemmad.models.config import ModelConfig


class VisionTower:
    """Pixels to rows of the language network."""

    def __init__(self, tower: nn.Module, projector: nn.Module) -> None:
        self._parts = {"vision_tower": tower, "multi_modal_projector": projector}

    @torch.inference_mode()
    def encode(self, pixels: torch.Tensor) -> torch.Tensor:
        """pixels [N, 3, height, width] in the model's dtype, normalised → [N, image tokens, hidden]."""
        features = self._parts["vision_tower"](pixel_values=pixels).last_hidden_state
        rows: torch.Tensor = self._parts["multi_modal_projector"](features)
        return rows

    @property
    def nbytes(self) -> int:
        """Bytes of its weights."""
        return sum(tensor.nbytes for _, tensor in self.named_tensors())

    def named_tensors(self) -> Iterator[tuple[str, torch.Tensor]]:
        """Every weight under the name that `models.weights` looks for."""
        for part, module in self._parts.items():
            for name, parameter in module.named_parameters():
                yield f"{part}.{name.removeprefix('vision_model.')}", parameter.data


def build_tower(config: ModelConfig, *, device: torch.device, dtype: torch.dtype) -> VisionTower:
    """Allocate a tower without computing an initialisation that would be overwritten."""
    from accelerate import init_empty_weights
    from transformers import SiglipVisionModel
    from transformers.models.gemma3.modeling_gemma3 import Gemma3MultiModalProjector

    vision = config.vision
    assert vision is not None
    vision._attn_implementation = "sdpa"
    with init_empty_weights(include_buffers=False):
        tower, projector = SiglipVisionModel(vision), Gemma3MultiModalProjector(config.whole)
    return VisionTower(_materialise(tower, device, dtype), _materialise(projector, device, dtype))


def _materialise(module: Any, device: torch.device, dtype: torch.dtype) -> nn.Module:
    for part in module.modules():
        for name, parameter in part.named_parameters(recurse=False):
            empty = torch.empty(parameter.shape, device=device, dtype=dtype)
            part.register_parameter(name, nn.Parameter(empty, requires_grad=False))
        for name, buffer in part.named_buffers(recurse=False):
            part.register_buffer(name, buffer.to(device), persistent=False)
    ready: nn.Module = module.eval()
    return ready
