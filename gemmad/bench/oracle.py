"""transformers' own Gemma 3, over a checkpoint or over weights that an engine's network has: the one it is held to."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from gemmad.bench.export import text_tensors
from gemmad.models.config import ModelConfig
from gemmad.models.weights import Weights


def quiet() -> None:
    """No bars and reports of loading between the figures."""
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()


def from_weights(config: ModelConfig, weights: Weights) -> Any:
    """A Gemma3ForCausalLM whose parameters are views of `weights`, or what codes stand for; the tower is left out."""
    from accelerate import init_empty_weights
    from transformers import AutoConfig, Gemma3ForCausalLM

    quiet()
    text = AutoConfig.from_pretrained(config.folder).get_text_config()
    text._attn_implementation = "sdpa"
    with init_empty_weights(include_buffers=False):
        model = Gemma3ForCausalLM(text)
    for name, tensor in text_tensors(config.text, weights):
        _put(model.model, name, tensor)
    _put(model, "lm_head.weight", model.model.embed_tokens.weight)
    return model.to(weights.device).eval()


def from_folder(config: ModelConfig, *, device: torch.device, dtype: torch.dtype) -> Any:
    """The checkpoint as transformers loads it, without any of our code between."""
    from transformers import Gemma3ForCausalLM, Gemma3ForConditionalGeneration

    quiet()
    kind = Gemma3ForCausalLM if config.vision is None else Gemma3ForConditionalGeneration
    return kind.from_pretrained(config.folder, dtype=dtype, attn_implementation="sdpa").to(device).eval()


def in_float32(model: Any) -> Any:
    """The same model, computing in float32 with the same numbers: embeddings keep the scale that a model in bfloat16
    rounds (62 for a width of 3840, and not 61.97), as it was trained."""
    for module in model.modules():
        if hasattr(module, "embed_scale"):
            module.embed_scale = module.embed_scale.to(torch.bfloat16).to(torch.float32)
    return model.float()


def _put(model: nn.Module, name: str, tensor: torch.Tensor) -> None:
    path, _, leaf = name.rpartition(".")
    module = model.get_submodule(path)
    expected = getattr(module, leaf).shape
    assert tensor.shape == expected, f"{name} is {list(tensor.shape)}, transformers asks for {list(expected)}"
    setattr(module, leaf, nn.Parameter(tensor, requires_grad=False))
