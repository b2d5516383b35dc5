"""A checkpoint's shape, read from its config.json through transformers' own config classes. Nothing here is a constant
of some model: every number comes from the folder."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gemmad.errors import CheckpointError


@dataclass(frozen=True)
class RopeConfig:
    """One kind of layer's rotary embedding."""

    theta: float
    factor: float
    """Positions are divided by it (linear scaling); 1 is none."""


@dataclass(frozen=True)
class TextShape:
    """The language network."""

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    heads: int
    kv_heads: int
    head_dim: int
    full_layers: tuple[bool, ...]
    """One entry a layer: True sees the whole context, False the last `window` tokens."""
    window: int
    attention_scale: float
    norm_eps: float
    max_context: int
    full_rope: RopeConfig
    sliding_rope: RopeConfig
    logit_softcap: float | None

    @property
    def qkv_size(self) -> int:
        """Rows of the merged projection."""
        return (self.heads + 2 * self.kv_heads) * self.head_dim


@dataclass(frozen=True)
class ModelConfig:
    """A Gemma 3 checkpoint."""

    folder: Path
    text: TextShape
    vision: Any | None
    """transformers' SiglipVisionConfig; None for a text-only checkpoint."""
    image_tokens: int
    """Soft tokens of one image; 0 without vision."""
    whole: Any
    """transformers' config, for the parts that transformers builds."""


def read_config(folder: Path) -> ModelConfig:
    """Read `config.json`. Raises CheckpointError when it is missing, broken, or of a network that this is not."""
    raw = _read_json(folder / "config.json")
    kind = raw.get("model_type")
    if kind not in ("gemma3", "gemma3_text"):
        raise CheckpointError(f"{folder / 'config.json'}: model_type is {kind!r}; gemmad serves gemma3 and gemma3_text")
    # The hub is never asked: the folder is the whole truth.
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    from transformers.models.gemma3.configuration_gemma3 import Gemma3Config, Gemma3TextConfig

    try:
        whole = (Gemma3Config if kind == "gemma3" else Gemma3TextConfig).from_dict(raw)
        text = whole.text_config if kind == "gemma3" else whole
        vision = whole.vision_config if kind == "gemma3" else None
        return ModelConfig(folder, _text_shape(text), vision, whole.mm_tokens_per_image if vision else 0, whole)
    except CheckpointError:
        raise
    except Exception as error:  # whatever the library finds wrong with the numbers
        raise CheckpointError(f"{folder / 'config.json'}: {error}") from error


def _text_shape(text: Any) -> TextShape:
    _refuse_what_is_not_built(text)
    return TextShape(
        vocab_size=text.vocab_size,
        hidden_size=text.hidden_size,
        intermediate_size=text.intermediate_size,
        heads=text.num_attention_heads,
        kv_heads=text.num_key_value_heads,
        head_dim=text.head_dim,
        full_layers=tuple(kind == "full_attention" for kind in text.layer_types),
        window=text.sliding_window,
        attention_scale=text.query_pre_attn_scalar**-0.5,
        norm_eps=text.rms_norm_eps,
        max_context=text.max_position_embeddings,
        full_rope=_rope(text.rope_parameters["full_attention"]),
        sliding_rope=_rope(text.rope_parameters["sliding_attention"]),
        logit_softcap=text.final_logit_softcapping,
    )


def _rope(parameters: dict[str, Any]) -> RopeConfig:
    kind = parameters.get("rope_type", "default")
    if kind not in ("default", "linear"):
        raise CheckpointError(f"rope type {kind!r} is not one of Gemma 3's")
    return RopeConfig(
        theta=float(parameters["rope_theta"]), factor=float(parameters["factor"]) if kind == "linear" else 1.0
    )


def _refuse_what_is_not_built(text: Any) -> None:
    expected = {
        "attention_bias": (False, None),
        "attn_logit_softcapping": (None,),
        "use_bidirectional_attention": (False, None),
        "hidden_activation": ("gelu_pytorch_tanh",),
        "tie_word_embeddings": (True, None),
    }
    for name, allowed in expected.items():
        value = getattr(text, name, allowed[0])
        if value not in allowed:
            raise CheckpointError(f"{name} = {value!r} is not a Gemma 3 network that gemmad knows")


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise CheckpointError(
            f"{path} is missing; a checkpoint folder holds config.json, weights and tokenizer"
        ) from None
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from error
    if not isinstance(value, dict):
        raise CheckpointError(f"{path} is not a JSON object")
    return value
