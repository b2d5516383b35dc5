"""What the network's matrices are called, how large they are, and which lie in one merged matrix."""

from __future__ import annotations

from gemmad.models.config import TextShape

EMBEDDING = "embed_tokens.weight"
MERGED = (
    ("self_attn.q_proj.weight", "self_attn.k_proj.weight", "self_attn.v_proj.weight"),
    ("mlp.gate_proj.weight", "mlp.up_proj.weight"),
)
"""Of each layer: the parts of `qkv` and of `gate_up`."""


def plain_name(name: str) -> str:
    """The same tensor has had several names on the hub (`language_model.model.…`, `model.language_model.…`)."""
    words = [word for word in name.split(".") if word not in ("model", "language_model", "vision_model")]
    return ".".join(words)


def matrix_shapes(shape: TextShape) -> dict[str, tuple[int, int]]:
    """(rows, columns) of every matrix of the language network, by name."""
    hidden, inner, width = shape.hidden_size, shape.intermediate_size, shape.head_dim
    layer = {
        "self_attn.q_proj.weight": (shape.heads * width, hidden),
        "self_attn.k_proj.weight": (shape.kv_heads * width, hidden),
        "self_attn.v_proj.weight": (shape.kv_heads * width, hidden),
        "self_attn.o_proj.weight": (hidden, shape.heads * width),
        "mlp.gate_proj.weight": (inner, hidden),
        "mlp.up_proj.weight": (inner, hidden),
        "mlp.down_proj.weight": (hidden, inner),
    }
    layers = range(len(shape.full_layers))
    shapes = {f"layers.{index}.{name}": size for index in layers for name, size in layer.items()}
    return {EMBEDDING: (shape.vocab_size, hidden), **shapes}
