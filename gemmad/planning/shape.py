"""A network's shape from its config.json alone, and how many numbers it is made of.

Files of the hub leave out what equals the defaults of transformers' config classes; those defaults stand here once
more, so that a plan needs neither transformers nor torch. A test holds the two equal.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from gemmad.errors import CheckpointError
from gemmad.planning.coded import coded_formats
from gemmad.planning.coding import CodedFormats

Size = Annotated[int, Meta(ge=1)]
_NORM_ITEMSIZE = 4
"""Norms are kept in float32, whatever the matrices are."""


class VisionShape(Struct, frozen=True):
    """SigLIP's tower (https://arxiv.org/abs/2303.15343), which takes square pictures."""

    hidden_size: Size = 768
    intermediate_size: Size = 3072
    num_hidden_layers: Size = 12
    num_attention_heads: Size = 12
    num_channels: Size = 3
    image_size: Size = 224
    patch_size: Size = 16

    @property
    def patches(self) -> int:
        """Patches of one picture."""
        return (self.image_size // self.patch_size) ** 2

    def parameters(self) -> int:
        """Numbers of the tower, without the projector behind it."""
        hidden, inner = self.hidden_size, self.intermediate_size
        mlp = 2 * hidden * inner + hidden + inner
        attention = 4 * (hidden * hidden + hidden)
        norm = 2 * hidden
        embeddings = hidden * self.num_channels * self.patch_size**2 + hidden + self.patches * hidden
        return embeddings + self.num_hidden_layers * (2 * norm + attention + mlp) + norm


class ModelShape(Struct, frozen=True, kw_only=True):
    """A Gemma 3 network, as far as memory goes."""

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    heads: int
    kv_heads: int
    head_dim: int
    full_layers: tuple[bool, ...]
    """One entry a layer: True sees the whole context, False the last `window` tokens."""
    window: int
    max_context: int
    """What it was trained for."""
    vision: VisionShape | None = None
    image_tokens: int = 0
    """Soft tokens of one image; 0 without vision."""
    coded: CodedFormats | None = None
    """What the checkpoint's matrices come in; None: numbers."""

    @property
    def qkv_size(self) -> int:
        """Rows of the merged projection."""
        return (self.heads + 2 * self.kv_heads) * self.head_dim

    def layer_matrices(self) -> tuple[tuple[int, int], ...]:
        """Rows and columns of one layer's four: qkv, o, gate and up, down."""
        hidden, inner, queries = self.hidden_size, self.intermediate_size, self.heads * self.head_dim
        return ((self.qkv_size, hidden), (hidden, queries), (2 * inner, hidden), (hidden, inner))

    def matrices(self) -> tuple[int, ...]:
        """Numbers in each matrix that is allocated in one piece: the embedding, then every layer's four."""
        layer = tuple(rows * columns for rows, columns in self.layer_matrices())
        return (self.vocab_size * self.hidden_size, *layer * len(self.full_layers))

    def norm_bytes(self) -> int:
        """Bytes of the language network's norms, whatever its matrices are."""
        norms = len(self.full_layers) * (4 * self.hidden_size + 2 * self.head_dim) + self.hidden_size
        return norms * _NORM_ITEMSIZE

    def tower_parameters(self) -> int:
        """Numbers of the vision tower and of the projector behind it; 0 without vision."""
        if self.vision is None:
            return 0
        projector = self.vision.hidden_size * (self.hidden_size + 1)  # the matrix, and the norm before it
        return self.vision.parameters() + projector

    def weight_bytes(self, itemsize: int) -> int:
        """Bytes of all weights, vision tower and projector included. `itemsize`: bytes of a number in a matrix, none
        of which is coded."""
        return (sum(self.matrices()) + self.tower_parameters()) * itemsize + self.norm_bytes()


def read_shape(folder: Path) -> ModelShape:
    """Read `config.json`, and what the matrices come in. Raises CheckpointError when it is missing, broken, or of
    another network, and for matrices that were coded in a way that is not served."""
    path = folder / "config.json"
    try:
        shape = _shape(msgspec.json.decode(path.read_bytes(), type=_File), str(path))
    except FileNotFoundError:
        raise CheckpointError(
            f"{path} is missing; a checkpoint folder holds config.json, weights and tokenizer"
        ) from None
    except (OSError, UnicodeDecodeError, msgspec.MsgspecError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from error
    return msgspec.structs.replace(shape, coded=coded_formats(folder))


def published_shape(name: str) -> ModelShape:
    """One of the sizes in `PUBLISHED`."""
    return _shape(msgspec.convert(PUBLISHED[name], _File), name)


class TextKeys(Struct, frozen=True):
    """The language network's keys that set its sizes, with the defaults of transformers' Gemma3TextConfig."""

    vocab_size: Size = 262_208
    hidden_size: Size = 2304
    intermediate_size: Size = 9216
    num_hidden_layers: Size = 26
    num_attention_heads: Size = 8
    num_key_value_heads: Size = 4
    head_dim: Size = 256
    max_position_embeddings: Size = 131_072
    sliding_window: Size | None = 4096
    sliding_window_pattern: Size = 6
    """Of so many layers the last one sees the whole context, where `layer_types` does not say more."""
    layer_types: tuple[str, ...] | None = None


class _File(TextKeys, frozen=True):
    """config.json. A text-only model has the language network's keys at the top."""

    model_type: str | None = None
    text_config: TextKeys | None = None
    vision_config: VisionShape | None = None
    mm_tokens_per_image: Size = 256


def _shape(file: _File, source: str) -> ModelShape:
    if file.model_type not in {"gemma3", "gemma3_text"}:
        raise CheckpointError(f"{source}: model_type is {file.model_type!r}; gemmad serves gemma3 and gemma3_text")
    sees = file.model_type == "gemma3"
    text = (file.text_config or TextKeys()) if sees else file
    layers = range(1, text.num_hidden_layers + 1)
    if text.layer_types is None:
        full_layers = tuple(layer % text.sliding_window_pattern == 0 for layer in layers)
    else:
        full_layers = tuple(kind == "full_attention" for kind in text.layer_types)
    return ModelShape(
        vocab_size=text.vocab_size,
        hidden_size=text.hidden_size,
        intermediate_size=text.intermediate_size,
        heads=text.num_attention_heads,
        kv_heads=text.num_key_value_heads,
        head_dim=text.head_dim,
        full_layers=full_layers,
        window=text.sliding_window or text.max_position_embeddings,
        max_context=text.max_position_embeddings,
        vision=(file.vision_config or VisionShape()) if sees else None,
        image_tokens=file.mm_tokens_per_image if sees else 0,
    )


_SMALL = {"model_type": "gemma3_text", "vocab_size": 262_144, "sliding_window": 512, "max_position_embeddings": 32_768}
_SIGLIP = {
    "hidden_size": 1152,
    "intermediate_size": 4304,
    "num_hidden_layers": 27,
    "num_attention_heads": 16,
    "image_size": 896,
    "patch_size": 14,
}


def _with_vision(**text: int) -> dict[str, Any]:
    return {"model_type": "gemma3", "text_config": {"sliding_window": 1024, **text}, "vision_config": _SIGLIP}


PUBLISHED: Mapping[str, Mapping[str, Any]] = {
    "270m": _SMALL
    | {"hidden_size": 640, "intermediate_size": 2048, "num_hidden_layers": 18}
    | {"num_attention_heads": 4, "num_key_value_heads": 1},
    "1b": _SMALL
    | {"hidden_size": 1152, "intermediate_size": 6912, "num_hidden_layers": 26}
    | {"num_attention_heads": 4, "num_key_value_heads": 1},
    "4b": _with_vision(hidden_size=2560, intermediate_size=10_240, num_hidden_layers=34),
    "12b": _with_vision(
        hidden_size=3840,
        intermediate_size=15_360,
        num_hidden_layers=48,
        num_attention_heads=16,
        num_key_value_heads=8,
    ),
    "27b": _with_vision(
        hidden_size=5376,
        intermediate_size=21_504,
        num_hidden_layers=62,
        num_attention_heads=32,
        num_key_value_heads=16,
        head_dim=128,
    ),
}
"""What the config.json of each size that Google published says, from the smallest on."""
