"""A checkpoint's shape, read from its config.json. Nothing here is a constant of some model: every number comes from
the folder, and what a folder is silent about is what transformers' config classes say (they are not imported: that
takes longer than reading the weights; tests hold the two equal)."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import msgspec
from msgspec import Struct

from gemmad.errors import CheckpointError
from gemmad.planning import shape as planning
from gemmad.planning.shape import Size


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


class VisionShape(planning.VisionShape, frozen=True, kw_only=True):
    """The SigLIP tower, in the names and with the defaults of transformers' SiglipVisionConfig."""

    model_type: Literal["siglip_vision_model"] = "siglip_vision_model"
    hidden_act: Literal["gelu_pytorch_tanh"] = "gelu_pytorch_tanh"
    layer_norm_eps: float = 1e-6


@dataclass(frozen=True)
class ModelConfig:
    """A Gemma 3 checkpoint."""

    folder: Path
    text: TextShape
    vision: VisionShape | None
    """None for a text-only checkpoint."""
    image_tokens: int
    """Soft tokens of one image; 0 without vision."""

    @property
    def whole(self) -> Any:
        """transformers' config, for what is compared with transformers' own network. Imports it: seconds."""
        from transformers.models.gemma3.configuration_gemma3 import Gemma3Config, Gemma3TextConfig

        raw = _read_json(self.folder / "config.json")
        return (Gemma3Config if raw["model_type"] == "gemma3" else Gemma3TextConfig).from_dict(raw)


def read_config(folder: Path) -> ModelConfig:
    """Read `config.json`. Raises CheckpointError when it is missing, broken, or of a network that this is not."""
    path = folder / "config.json"
    raw = _read_json(path)
    kind = raw.get("model_type")
    try:
        if kind == "gemma3_text":
            return ModelConfig(folder, _text_shape(msgspec.convert(raw, _TextConfig)), vision=None, image_tokens=0)
        if kind == "gemma3":
            whole = msgspec.convert(raw, _WholeConfig)
            _refuse_odd_pictures(whole)
            return ModelConfig(folder, _text_shape(whole.text_config), whole.vision_config, whole.mm_tokens_per_image)
    except (msgspec.ValidationError, CheckpointError) as error:
        raise CheckpointError(f"{path}: {error}") from error
    raise CheckpointError(f"{path}: model_type is {kind!r}; gemmad serves gemma3 and gemma3_text")


class _Rope(Struct, frozen=True):
    rope_type: str | None = None
    rope_theta: float | None = None
    factor: float | None = None


class _Ropes(Struct, frozen=True):
    full_attention: _Rope | None = None
    sliding_attention: _Rope | None = None


class _TextConfig(planning.TextKeys, frozen=True, kw_only=True):
    """What matters of transformers' Gemma3TextConfig beside its sizes, with its defaults."""

    hidden_activation: str = "gelu_pytorch_tanh"
    rms_norm_eps: float = 1e-6
    tie_word_embeddings: bool | None = True
    attention_bias: bool | None = False
    query_pre_attn_scalar: float = 256
    layer_types: tuple[Literal["full_attention", "sliding_attention"], ...] | None = None
    rope_parameters: _Ropes | None = None
    rope_scaling: _Rope | None = None
    """Of the full layers, in older files."""
    rope_theta: float = 1_000_000.0
    """The same."""
    rope_local_base_freq: float = 10_000.0
    """The sliding layers' theta, in older files."""
    final_logit_softcapping: float | None = None
    attn_logit_softcapping: float | None = None
    use_bidirectional_attention: bool | None = False


class _WholeConfig(Struct, frozen=True, kw_only=True):
    """What matters of transformers' Gemma3Config."""

    text_config: _TextConfig = _TextConfig()
    vision_config: VisionShape = VisionShape()
    mm_tokens_per_image: Size = 256
    tie_word_embeddings: Literal[True] | None = True


def _text_shape(text: Any) -> TextShape:
    _refuse_what_is_not_built(text)
    kinds = text.layer_types or tuple(
        "sliding_attention" if (layer + 1) % text.sliding_window_pattern else "full_attention"
        for layer in range(text.num_hidden_layers)
    )
    if len(kinds) != text.num_hidden_layers:
        raise CheckpointError(f"layer_types has {len(kinds)} entries for {text.num_hidden_layers} layers")
    if text.sliding_window is None and "sliding_attention" in kinds:
        raise CheckpointError("layers with a sliding window, and sliding_window is not set")
    full_rope, sliding_rope = _ropes(text)
    return TextShape(
        vocab_size=text.vocab_size,
        hidden_size=text.hidden_size,
        intermediate_size=text.intermediate_size,
        heads=text.num_attention_heads,
        kv_heads=text.num_key_value_heads,
        head_dim=text.head_dim,
        full_layers=tuple(kind == "full_attention" for kind in kinds),
        window=text.sliding_window or text.max_position_embeddings,
        attention_scale=text.query_pre_attn_scalar**-0.5,
        norm_eps=text.rms_norm_eps,
        max_context=text.max_position_embeddings,
        full_rope=full_rope,
        sliding_rope=sliding_rope,
        logit_softcap=text.final_logit_softcapping,
    )


def _ropes(text: Any) -> tuple[RopeConfig, RopeConfig]:
    """Of the full and of the sliding layers. Older files say it in three keys, newer ones in one."""
    both = text.rope_parameters or _Ropes()
    full, sliding = both.full_attention or _Rope(), both.sliding_attention or _Rope()
    if (older := text.rope_scaling) is not None:
        full = _Rope(
            older.rope_type or full.rope_type, older.rope_theta or full.rope_theta, older.factor or full.factor
        )
    return _rope(full, theta=text.rope_theta), _rope(sliding, theta=text.rope_local_base_freq)


def _rope(rope: _Rope, *, theta: float) -> RopeConfig:
    kind = rope.rope_type or "default"
    if kind not in ("default", "linear"):
        raise CheckpointError(f"rope type {kind!r} is not one of Gemma 3's")
    if kind == "linear" and not rope.factor:
        raise CheckpointError("linear rope scaling without a factor")
    return RopeConfig(theta=rope.rope_theta or theta, factor=(rope.factor or 1.0) if kind == "linear" else 1.0)


def _refuse_what_is_not_built(text: Any) -> None:
    expected = {
        "attention_bias": (False, None),
        "attn_logit_softcapping": (None,),
        "use_bidirectional_attention": (False, None),
        "hidden_activation": ("gelu_pytorch_tanh",),
        "tie_word_embeddings": (True, None),
    }
    for name, allowed in expected.items():
        value = getattr(text, name)
        if value not in allowed:
            raise CheckpointError(f"{name} = {value!r} is not a Gemma 3 network that gemmad knows")
    if text.head_dim % 2:
        raise CheckpointError(f"head_dim = {text.head_dim}: heads are rotated in two halves")
    if text.num_attention_heads % text.num_key_value_heads:
        raise CheckpointError(f"{text.num_attention_heads} heads over {text.num_key_value_heads} KV heads")


def _refuse_odd_pictures(whole: _WholeConfig) -> None:
    """Patches and pooled tokens must tile the picture."""
    vision, tokens = whole.vision_config, whole.mm_tokens_per_image
    patches, pooled = vision.image_size // vision.patch_size, round(tokens**0.5)
    if vision.image_size % vision.patch_size or pooled**2 != tokens or patches % pooled:
        raise CheckpointError(
            f"a picture of {vision.image_size} pixels a side in patches of {vision.patch_size} gives no {tokens} tokens"
        )
    if vision.hidden_size % vision.num_attention_heads:
        raise CheckpointError(f"a tower {vision.hidden_size} wide with {vision.num_attention_heads} heads")


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
