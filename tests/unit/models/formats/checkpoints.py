"""Small checkpoints that come quantised, packed bit by bit as each format is described: slow, and nobody's shortcut."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from gemmad.models.config import ModelConfig, read_config
from gemmad.models.formats.names import EMBEDDING, matrix_shapes
from gemmad.models.formats.stored import Parts
from gemmad.models.tensorfile import read_header

CPU = torch.device("cpu")
TEXT = {
    "vocab_size": 40,
    "hidden_size": 128,
    "intermediate_size": 256,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "sliding_window": 16,
}
VISION = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "image_size": 32,
    "patch_size": 8,
}
NORMS = ("input_layernorm", "post_attention_layernorm", "pre_feedforward_layernorm", "post_feedforward_layernorm")


def write_config(folder: Path, quantization: Mapping[str, Any] | None = None, *, vision: bool = False) -> ModelConfig:
    """config.json of a small network."""
    config: dict[str, Any] = {"model_type": "gemma3_text", **TEXT}
    if vision:
        config = {
            "model_type": "gemma3", "text_config": TEXT, "vision_config": VISION, "mm_tokens_per_image": 4
        }  # fmt: skip
    if quantization is not None:
        config["quantization_config"] = dict(quantization)
    (folder / "config.json").write_text(json.dumps(config))
    return read_config(folder)


def plain_tensors(config: ModelConfig) -> dict[str, torch.Tensor]:
    """Norms, as the hub has them, under the names of the network."""
    shape, tensors = config.text, {"norm.weight": torch.randn(config.text.hidden_size) * 0.1}
    for layer in range(len(shape.full_layers)):
        for name in NORMS:
            tensors[f"layers.{layer}.{name}.weight"] = torch.randn(shape.hidden_size) * 0.1
        for name in ("self_attn.q_norm", "self_attn.k_norm"):
            tensors[f"layers.{layer}.{name}.weight"] = torch.randn(shape.head_dim) * 0.1
    return tensors


Module = Callable[[int, int], dict[str, torch.Tensor]]
"""Rows and columns → a module's tensors by the last word of their names."""


def write_modules(folder: Path, config: ModelConfig, module: Module, *, prefix: str = "model.") -> dict[str, Any]:
    """A whole checkpoint whose layers' matrices are modules, and whose embedding is plain; what it is made of."""
    modules = {name: module(*size) for name, size in matrix_shapes(config.text).items() if name != EMBEDDING}
    tensors = plain_tensors(config) | {EMBEDDING: torch.randn(config.text.vocab_size, config.text.hidden_size) * 0.1}
    for name, parts in modules.items():
        tensors |= {f"{name.removesuffix('.weight')}.{part}": tensor for part, tensor in parts.items()}
    save_file({prefix + name: tensor for name, tensor in tensors.items()}, folder / "model.safetensors")
    return {**tensors, **modules}


def write_parts(folder: Path, tensors: Mapping[str, torch.Tensor]) -> Parts:
    """One module alone in a file, as readers get it."""
    path = folder / "model.safetensors"
    save_file({f"m.{name}": tensor.contiguous() for name, tensor in tensors.items()}, path)
    return {stored.name.removeprefix("m."): stored for stored in read_header(path)}


def words(rows: Iterable[Sequence[int]], bits: int, *, order: Sequence[int] | None = None) -> torch.Tensor:
    """Codes [R, C] → int32 [R, C · bits / 32]. `order`: which columns a word has from its lowest bits up."""
    per_word = 32 // bits
    places = order or range(per_word)
    packed = []
    for row in rows:
        values = []
        for at in range(0, len(row), per_word):
            word = sum(int(row[at + column]) << (bits * place) for place, column in enumerate(places))
            values.append(word - (1 << 32) if word >> 31 else word)
        packed.append(values)
    return torch.tensor(packed, dtype=torch.int32)


def downwards(codes: torch.Tensor, bits: int) -> torch.Tensor:
    """Codes [R, C] → int32 [R · bits / 32, C]."""
    return words(codes.t().tolist(), bits).t().contiguous()


AWQ_ORDER = (0, 2, 4, 6, 1, 3, 5, 7)


class Gguf:
    """Writes a file of version 2 or 3."""

    def __init__(self, *, version: int = 3, alignment: int = 32) -> None:
        self.version = version
        self.alignment = alignment
        self.keys: list[bytes] = []
        self.tensors: list[tuple[str, tuple[int, ...], int, bytes]] = []
        self.text_key("general.architecture", "gemma3")
        if alignment != 32:
            self.keys.append(string("general.alignment") + struct.pack("<II", 4, alignment))

    def text_key(self, name: str, value: str) -> None:
        """A string."""
        self.keys.append(string(name) + struct.pack("<I", 8) + string(value))

    def add(self, name: str, kind: int, shape: Sequence[int], data: bytes) -> None:
        """A tensor, its outermost dimension first."""
        self.tensors.append((name, tuple(shape), kind, data))

    def add_floats(self, name: str, tensor: torch.Tensor, *, half: bool = False) -> None:
        """As F32, or as F16."""
        stored = tensor.to(torch.float16 if half else torch.float32).contiguous()
        self.add(name, 1 if half else 0, tuple(tensor.shape), stored.numpy().tobytes())

    def encode(self) -> bytes:
        """The file."""
        header = b"GGUF" + struct.pack("<IQQ", self.version, len(self.tensors), len(self.keys)) + b"".join(self.keys)
        data = b""
        for name, shape, kind, held in self.tensors:
            data += bytes(-len(data) % self.alignment)
            header += string(name) + struct.pack("<I", len(shape)) + struct.pack(f"<{len(shape)}Q", *shape[::-1])
            header += struct.pack("<IQ", kind, len(data))
            data += held
        return header + bytes(-len(header) % self.alignment) + data

    def write(self, path: Path) -> Path:
        """To a file."""
        path.write_bytes(self.encode())
        return path


def string(text: str) -> bytes:
    """As GGUF has it."""
    return struct.pack("<Q", len(text.encode())) + text.encode()


Q4_0 = 2


def q4_0(rows: int, columns: int) -> tuple[bytes, torch.Tensor]:
    """Random blocks, and the numbers that they stand for."""
    data, numbers = b"", []
    for _ in range(rows * columns // 32):
        codes = torch.randint(0, 16, (32,)).tolist()
        scale = (torch.randn(()) * 0.05).to(torch.float16)
        data += scale.numpy().tobytes() + bytes(codes[at] | codes[at + 16] << 4 for at in range(16))
        numbers += [float(scale) * (code - 8) for code in codes]
    return data, torch.tensor(numbers).view(rows, columns)


GGUF_LAYER = {
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
    "attn_norm": "input_layernorm",
    "post_attention_norm": "post_attention_layernorm",
    "ffn_norm": "pre_feedforward_layernorm",
    "post_ffw_norm": "post_feedforward_layernorm",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
}


def gguf_network(config: ModelConfig, *, vocab: int) -> tuple[Gguf, dict[str, torch.Tensor]]:
    """A network in Q4_0 with an embedding of F16 that ends early, and its tensors; norms as the hub has them."""
    file, shapes, plain = Gguf(), matrix_shapes(config.text), plain_tensors(config)
    embedding = (torch.randn(vocab, config.text.hidden_size) * 0.1).to(torch.float16).float()
    network = {EMBEDDING: embedding, **plain}
    file.add_floats("token_embd.weight", embedding, half=True)
    file.add_floats("output_norm.weight", plain["norm.weight"] + 1)
    for layer in range(len(config.text.full_layers)):
        for theirs, ours in GGUF_LAYER.items():
            name = f"layers.{layer}.{ours}.weight"
            if name in plain:
                file.add_floats(f"blk.{layer}.{theirs}.weight", plain[name] + 1)
                continue
            data, network[name] = q4_0(*shapes[name])
            file.add(f"blk.{layer}.{theirs}.weight", Q4_0, shapes[name], data)
    return file, network


def gguf_tower(config: ModelConfig, *, swapped: bool = False) -> tuple[Gguf, dict[str, torch.Tensor]]:
    """llama.cpp's file of the vision tower, and the tower's tensors. `swapped`: as older converters named its MLP."""
    vision, file = config.vision, Gguf()
    assert vision is not None
    file.keys = [string("general.architecture") + struct.pack("<I", 8) + string("clip")]
    file.text_key("clip.projector_type", "gemma3")
    width, inner, side = vision.hidden_size, vision.intermediate_size, vision.patch_size
    up, down = ("ffn_down", "ffn_up") if swapped else ("ffn_up", "ffn_down")
    root, layer = "vision_tower", "vision_tower.encoder.layers.0"
    named: dict[str, tuple[str, tuple[int, ...]]] = {
        "v.patch_embd.weight": (f"{root}.embeddings.patch_embedding.weight", (width, vision.num_channels, side, side)),
        "v.patch_embd.bias": (f"{root}.embeddings.patch_embedding.bias", (width,)),
        "v.position_embd.weight": (f"{root}.embeddings.position_embedding.weight", (vision.patches, width)),
        "v.post_ln.weight": (f"{root}.post_layernorm.weight", (width,)),
        "v.post_ln.bias": (f"{root}.post_layernorm.bias", (width,)),
        "mm.input_projection.weight": (
            "multi_modal_projector.mm_input_projection_weight", (width, config.text.hidden_size)
        ),
        "mm.soft_emb_norm.weight": ("multi_modal_projector.mm_soft_emb_norm.weight", (width,)),
    }  # fmt: skip
    for theirs, ours, wide in (
        *((f"attn_{part}", f"self_attn.{part}_proj", (width, width)) for part in ("q", "k", "v")),
        ("attn_out", "self_attn.out_proj", (width, width)),
        (up, "mlp.fc1", (inner, width)),
        (down, "mlp.fc2", (width, inner)),
    ):
        named[f"v.blk.0.{theirs}.weight"] = (f"{layer}.{ours}.weight", wide)
        named[f"v.blk.0.{theirs}.bias"] = (f"{layer}.{ours}.bias", wide[:1])
    for theirs, ours in (("ln1", "layer_norm1"), ("ln2", "layer_norm2")):
        named[f"v.blk.0.{theirs}.weight"] = (f"{layer}.{ours}.weight", (width,))
        named[f"v.blk.0.{theirs}.bias"] = (f"{layer}.{ours}.bias", (width,))
    tensors: dict[str, torch.Tensor] = {}
    for theirs, (ours, size) in named.items():
        tensors[ours] = torch.randn(size) * 0.1
        file.add_floats(theirs, tensors[ours] + (1 if "soft_emb" in theirs else 0))
    return file, tensors
