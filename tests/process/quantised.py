"""The bundled model as others would have quantised it: folders to serve."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

import gemmad.demo
from gemmad.models.formats.names import plain_name
from tests.unit.models.formats.checkpoints import AWQ_ORDER, GGUF_LAYER, Q4_0, Gguf, downwards, string, words

CHECKPOINT = Path(gemmad.demo.__file__).parent / "checkpoint"
MATRIX = "_proj.weight"
Q8_0 = 8
INT8 = {"num_bits": 8, "type": "int", "strategy": "channel", "symmetric": True}
INT4 = {"num_bits": 4, "type": "int", "strategy": "group", "group_size": 32, "symmetric": True}

_TOWER = {
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_out": "self_attn.out_proj",
    "ln1": "layer_norm1",
    "ln2": "layer_norm2",
    "ffn_up": "mlp.fc1",
    "ffn_down": "mlp.fc2",
}
_WHOLE = {
    "embed_tokens.weight": "token_embd.weight",
    "norm.weight": "output_norm.weight",
    "vision_tower.embeddings.patch_embedding.weight": "v.patch_embd.weight",
    "vision_tower.embeddings.patch_embedding.bias": "v.patch_embd.bias",
    "vision_tower.embeddings.position_embedding.weight": "v.position_embd.weight",
    "vision_tower.post_layernorm.weight": "v.post_ln.weight",
    "vision_tower.post_layernorm.bias": "v.post_ln.bias",
    "multi_modal_projector.mm_input_projection_weight": "mm.input_projection.weight",
    "multi_modal_projector.mm_soft_emb_norm.weight": "mm.soft_emb_norm.weight",
}


def write_small_files(folder: Path, quantization: Mapping[str, Any] | None = None) -> Path:
    """All but the weights."""
    folder.mkdir()
    for path in CHECKPOINT.iterdir():
        if path.suffix != ".safetensors":
            shutil.copy(path, folder)
    if quantization is not None:
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**config, "quantization_config": dict(quantization)}))
    return folder


def write_compressed(folder: Path, weights: Mapping[str, Any]) -> Path:
    """By compressed-tensors, every matrix of the layers: `INT8` as `int-quantized`, `INT4` as `pack-quantized`."""
    bits = int(weights["num_bits"])
    layout = "int-quantized" if bits == 8 else "pack-quantized"
    quantization = {
        "quant_method": "compressed-tensors",
        "format": layout,
        "config_groups": {"group_0": {"targets": ["Linear"], "weights": dict(weights)}},
        "ignore": ["lm_head"],
    }

    def module(numbers: torch.Tensor) -> dict[str, torch.Tensor]:
        codes, scales = _symmetric(numbers, weights.get("group_size"), bits=bits)
        if bits == 8:
            return {"weight": codes.to(torch.int8), "weight_scale": scales}
        packed, shape = words((codes + 8).tolist(), 4), torch.tensor(numbers.shape)
        return {"weight_packed": packed, "weight_scale": scales, "weight_shape": shape}

    return _write_modules(folder, quantization, module)


def write_awq(folder: Path, *, group: int = 64) -> Path:
    """As AutoAWQ packs: columns of codes side by side in a word's odd order, and zero points, here of 8."""

    def module(numbers: torch.Tensor) -> dict[str, torch.Tensor]:
        codes, scales = _symmetric(numbers, group, bits=4)
        zeros = [[8] * numbers.shape[0]] * scales.shape[1]
        return {
            "qweight": words((codes + 8).t().tolist(), 4, order=AWQ_ORDER),
            "qzeros": words(zeros, 4, order=AWQ_ORDER),
            "scales": scales.t().contiguous().to(torch.float16),
        }

    quantization = {"quant_method": "awq", "bits": 4, "group_size": group, "version": "gemm", "zero_point": True}
    return _write_modules(folder, quantization, module)


def write_gptq(folder: Path, *, group: int = 128) -> Path:
    """As GPTQModel packs, in the first format, whose stored zeros lack one."""

    def module(numbers: torch.Tensor) -> dict[str, torch.Tensor]:
        codes, scales = _symmetric(numbers, group, bits=4)
        return {
            "qweight": downwards((codes + 8).t(), 4),
            "qzeros": words([[7] * numbers.shape[0]] * scales.shape[1], 4),
            "scales": scales.t().contiguous().to(torch.float16),
            "g_idx": torch.arange(numbers.shape[1], dtype=torch.int32) // group,
        }

    quantization = {"quant_method": "gptq", "bits": 4, "group_size": group, "sym": True, "desc_act": False}
    return _write_modules(folder, quantization, module)


def write_gguf(folder: Path, *, tower: bool = True) -> Path:
    """In GGUF: matrices in Q4_0, the embedding in F16, norms and the tower in F32."""
    return _write_gguf(folder, network=(Gguf(),), eight=(), tower=tower)


def write_mixed_gguf(folder: Path) -> Path:
    """In two files, the embedding and each `down` in Q8_0."""
    return _write_gguf(folder, network=(Gguf(), Gguf()), eight=("token_embd", "ffn_down"), tower=True)


def _write_gguf(folder: Path, *, network: Sequence[Gguf], eight: Sequence[str], tower: bool) -> Path:
    write_small_files(folder)
    vision = Gguf()
    vision.keys = [string("general.architecture") + _text("clip")]
    vision.text_key("clip.projector_type", "gemma3")
    for index, (stored, tensor) in enumerate(load_file(CHECKPOINT / "model.safetensors").items()):
        name, numbers = plain_name(stored), tensor.float()
        if "norm" in name and not name.startswith("vision_tower"):
            numbers = numbers + 1
        theirs = _their_name(name)
        in_tower = theirs.startswith(("v.", "mm."))
        file = vision if in_tower else network[index % len(network)]
        if any(each in theirs for each in eight) and not in_tower:
            file.add(theirs, Q8_0, numbers.shape, to_q8_0(numbers))
        elif name.endswith(MATRIX) and not in_tower:
            file.add(theirs, Q4_0, numbers.shape, to_q4_0(numbers))
        else:
            file.add_floats(theirs, numbers, half=name == "embed_tokens.weight")
    for number, file in enumerate(network, 1):
        split = f"-{number:05}-of-{len(network):05}" if len(network) > 1 else ""
        file.write(folder / f"demo-q4_0{split}.gguf")
    if tower:
        vision.write(folder / "mmproj-demo-f32.gguf")
    return folder


def to_q4_0(numbers: torch.Tensor) -> bytes:
    """As ggml does (`quantize_row_q4_0_ref`): the number furthest from 0 gets the code 0, which stands for -8."""
    blocks = numbers.reshape(-1, 32)
    furthest = blocks.gather(1, blocks.abs().argmax(1, keepdim=True))
    scales = (furthest / -8).to(torch.float16)
    inverse = torch.where(scales == 0, 0.0, 1 / (furthest / -8))
    codes = (blocks * inverse + 8.5).floor().clamp(0, 15).to(torch.uint8)
    packed = codes[:, :16] | (codes[:, 16:] << 4)
    return torch.cat((scales.view(torch.uint8), packed), 1).numpy().tobytes()


def to_q8_0(numbers: torch.Tensor) -> bytes:
    """As ggml does (`quantize_row_q8_0_ref`)."""
    blocks = numbers.reshape(-1, 32)
    scales = blocks.abs().amax(1, keepdim=True) / 127
    codes = torch.where(scales == 0, 0.0, blocks / scales).round().to(torch.int8)
    return torch.cat((scales.to(torch.float16).view(torch.uint8), codes.view(torch.uint8)), 1).numpy().tobytes()


def _write_modules(
    folder: Path, quantization: Mapping[str, Any], module: Callable[[torch.Tensor], dict[str, torch.Tensor]]
) -> Path:
    """Every matrix of the layers, [N, K] float32, by what `module` makes of it."""
    write_small_files(folder, quantization)
    tensors: dict[str, torch.Tensor] = {}
    for name, tensor in load_file(CHECKPOINT / "model.safetensors").items():
        if name.endswith(MATRIX) and "vision_tower" not in name:
            parts = module(tensor.float())
            tensors |= {f"{name.removesuffix('.weight')}.{part}": held for part, held in parts.items()}
        else:
            tensors[name] = tensor
    save_file(tensors, folder / "model.safetensors")
    return folder


def _symmetric(numbers: torch.Tensor, group: int | None, *, bits: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Codes around 0 [N, K] and bfloat16 scales [N, G]; no group: one scale for a row."""
    most = 2 ** (bits - 1) - 1
    groups = numbers.view(numbers.shape[0], -1, group or numbers.shape[1])
    scales = (groups.abs().amax(-1, keepdim=True) / most).to(torch.bfloat16)
    codes = (groups / scales.float().clamp(min=1e-12)).round().clamp(-most - 1, most)
    return codes.view(numbers.shape).long(), scales.squeeze(-1)


def _their_name(name: str) -> str:
    if name in _WHOLE:
        return _WHOLE[name]
    tower = name.startswith("vision_tower")
    _, layer, rest = name.removeprefix("vision_tower.encoder.").split(".", 2)
    module, part = rest.rsplit(".", 1)
    theirs = {ours: theirs for theirs, ours in (_TOWER if tower else GGUF_LAYER).items()}[module]
    return f"{'v.' if tower else ''}blk.{layer}.{theirs}.{part}"


def _text(value: str) -> bytes:
    return (8).to_bytes(4, "little") + string(value)
