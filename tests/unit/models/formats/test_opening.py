"""Whole checkpoints that come quantised: every tensor has one place, and what is loaded is what the files say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from gemmad.errors import CheckpointError
from gemmad.kernels.matrices import CodedMatrix, decode
from gemmad.models.config import ModelConfig
from gemmad.models.formats.names import EMBEDDING, matrix_shapes, plain_name
from gemmad.models.formats.opening import DecodedMatrix, open_coded
from gemmad.models.formats.source import CodedCheckpoint
from gemmad.models.weights import load_weights
from gemmad.planning.coded import coded_formats
from tests.unit.models.formats.checkpoints import (
    AWQ_ORDER,
    CPU,
    Module,
    downwards,
    gguf_network,
    gguf_tower,
    plain_tensors,
    q4_0,
    words,
    write_config,
    write_modules,
)

GROUP = 64
PACKED = {
    "quant_method": "compressed-tensors",
    "format": "pack-quantized",
    "config_groups": {
        "group_0": {"targets": ["Linear"], "weights": {"num_bits": 4, "strategy": "group", "group_size": GROUP}}
    },
    "ignore": ["lm_head"],
}
FP8 = {
    "quant_method": "compressed-tensors",
    "format": "float-quantized",
    "config_groups": {"group_0": {"weights": {"num_bits": 8, "type": "float", "strategy": "channel"}}},
}
AWQ = {"quant_method": "awq", "bits": 4, "group_size": GROUP, "version": "gemm", "zero_point": True}
GPTQ = {"quant_method": "gptq", "bits": 4, "group_size": GROUP, "sym": True, "desc_act": False}


def packed_module(rows: int, columns: int) -> dict[str, torch.Tensor]:
    """int4 in groups, symmetric."""
    scales = (torch.rand(rows, columns // GROUP) * 0.02).to(torch.bfloat16)
    return {"weight_packed": words(torch.randint(0, 16, (rows, columns)).tolist(), 4), "weight_scale": scales}


def fp8_module(rows: int, columns: int) -> dict[str, torch.Tensor]:
    """With a scale for each row."""
    return {"weight": torch.randn(rows, columns).to(torch.float8_e4m3fn), "weight_scale": torch.rand(rows, 1)}


def awq_module(rows: int, columns: int) -> dict[str, torch.Tensor]:
    """int4 in groups with zeros."""
    groups = columns // GROUP
    return {
        "qweight": words(torch.randint(0, 16, (columns, rows)).tolist(), 4, order=AWQ_ORDER),
        "qzeros": words(torch.randint(0, 16, (groups, rows)).tolist(), 4, order=AWQ_ORDER),
        "scales": (torch.rand(groups, rows) * 0.02).to(torch.float16),
    }


def gptq_module(rows: int, columns: int) -> dict[str, torch.Tensor]:
    """int4 in groups, symmetric."""
    groups = columns // GROUP
    return {
        "qweight": downwards(torch.randint(0, 16, (columns, rows)), 4),
        "qzeros": words([[7] * rows] * groups, 4),
        "scales": (torch.rand(groups, rows) * 0.02).to(torch.float16),
        "g_idx": torch.arange(columns, dtype=torch.int32) // GROUP,
    }


MODULES: dict[str, tuple[dict[str, Any], Module]] = {
    "packed": (PACKED, packed_module),
    "fp8": (FP8, fp8_module),
    "awq": (AWQ, awq_module),
    "gptq": (GPTQ, gptq_module),
}


def opened(folder: Path, config: ModelConfig) -> CodedCheckpoint:
    """A checkpoint that comes quantised."""
    checkpoint = open_coded(folder, config)
    assert checkpoint is not None
    return checkpoint


@pytest.mark.parametrize("case", MODULES)
def test_a_checkpoint_of_modules(tmp_path: Path, case: str) -> None:
    """Every matrix of the layers is coded as config.json says, and the embedding and all norms are plain."""
    quantization, module = MODULES[case]
    config = write_config(tmp_path, quantization)
    written = write_modules(tmp_path, config, module)
    checkpoint = opened(tmp_path, config)
    layers = matrix_shapes(config.text).keys() - {EMBEDDING}
    assert checkpoint.coded.keys() == layers
    assert checkpoint.decoded == {}
    assert {plain_name(stored.name) for stored in checkpoint.plain} == {EMBEDDING} | plain_tensors(config).keys()
    assert not checkpoint.norms_hold_one
    told = coded_formats(tmp_path)
    assert told is not None
    for source in checkpoint.coded.values():
        found = (source.kind, source.group if source.kind == "int4" else 128, source.has_offsets)
        assert found == (told.layers.kind, told.layers.group, told.layers.offsets)
        assert source.kind != "int4" or source.scale_dtype.itemsize == told.layers.scale_bytes
    assert EMBEDDING in written


@pytest.mark.parametrize("case", MODULES)
def test_what_is_loaded_is_what_the_files_say(tmp_path: Path, case: str) -> None:
    """A network's merged matrices hold the codes of their parts."""
    quantization, module = MODULES[case]
    config = write_config(tmp_path, quantization)
    written = write_modules(tmp_path, config, module)
    checkpoint = opened(tmp_path, config)
    weights = load_weights(config, device=CPU, dtype=torch.float32, format="auto")
    for index, layer in enumerate(weights.layers):
        for merged, parts in (
            (layer.qkv, ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj")),
            (layer.gate_up, ("mlp.gate_proj", "mlp.up_proj")),
            (layer.down, ("mlp.down_proj",)),
        ):
            assert isinstance(merged, CodedMatrix)
            sources = [checkpoint.coded[f"layers.{index}.{part}.weight"] for part in parts]
            read = torch.cat([decode(source.read(0, source.shape[0], CPU)) for source in sources])
            assert torch.equal(decode(merged), read)
    assert torch.equal(weights.final_norm, written["norm.weight"] + 1)


def test_plain_checkpoints_are_not_concerned(tmp_path: Path) -> None:
    """None is said of them, also where config.json has null for a quantization."""
    config = write_config(tmp_path)
    assert open_coded(tmp_path, config) is None
    text = (tmp_path / "config.json").read_text()
    (tmp_path / "config.json").write_text(text.replace('"model_type"', '"quantization_config": null, "model_type"'))
    assert open_coded(tmp_path, config) is None


def test_modules_that_were_left_whole(tmp_path: Path) -> None:
    """One part of a merged matrix that is plain makes numbers of the others; a whole matrix that is plain stays so."""
    config = write_config(tmp_path, PACKED)
    write_modules(tmp_path, config, packed_module)
    path = tmp_path / "model.safetensors"
    tensors = load_file(path)
    for whole in ("model.layers.0.self_attn.k_proj", "model.layers.1.mlp.down_proj"):
        rows, columns = matrix_shapes(config.text)[f"{plain_name(whole)}.weight"]
        tensors = {name: tensor for name, tensor in tensors.items() if not name.startswith(whole)}
        tensors[f"{whole}.weight"] = torch.randn(rows, columns)
    save_file(tensors, path)
    checkpoint = opened(tmp_path, config)
    assert checkpoint.decoded.keys() == {f"layers.0.self_attn.{part}_proj.weight" for part in ("q", "v")}
    assert {"layers.0.self_attn.k_proj.weight", "layers.1.mlp.down_proj.weight"} <= {
        plain_name(stored.name) for stored in checkpoint.plain
    }
    query = checkpoint.decoded["layers.0.self_attn.q_proj.weight"]
    assert isinstance(query, DecodedMatrix)
    assert torch.equal(query.read(3, 9, CPU), decode(query.source.read(3, 9, CPU)))


def test_names_of_multimodal_checkpoints(tmp_path: Path) -> None:
    """Older and newer prefixes of the hub are the same to a reader."""
    config = write_config(tmp_path, AWQ)
    write_modules(tmp_path, config, awq_module, prefix="language_model.model.")
    assert len(opened(tmp_path, config).coded) == 14


def test_a_quantised_tower_is_refused(tmp_path: Path) -> None:
    """By the name of its first tensor."""
    config = write_config(tmp_path, FP8)
    write_modules(tmp_path, config, fp8_module)
    path = tmp_path / "model.safetensors"
    name = "vision_tower.vision_model.encoder.layers.0.mlp.fc1"
    extra = {f"{name}.{part}": tensor for part, tensor in fp8_module(64, 128).items()}
    save_file(load_file(path) | extra, path)
    with pytest.raises(CheckpointError, match=r"mlp\.fc1\.weight.*: the vision tower is quantised"):
        open_coded(tmp_path, config)


def test_a_second_head_is_nobodys_concern(tmp_path: Path) -> None:
    """The embedding is the head, so a coded `lm_head` is not looked at."""
    config = write_config(tmp_path, PACKED)
    write_modules(tmp_path, config, packed_module)
    path = tmp_path / "model.safetensors"
    extra = {f"lm_head.{part}": tensor for part, tensor in packed_module(40, 128).items()}
    save_file(load_file(path) | extra, path)
    assert len(opened(tmp_path, config).coded) == 14


def test_files_without_any_code(tmp_path: Path) -> None:
    """That config.json calls quantised: what it means is not guessed."""
    config = write_config(tmp_path, PACKED)
    save_file({"model.norm.weight": torch.zeros(128)}, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match="no tensor of the files is coded"):
        open_coded(tmp_path, config)


def test_the_same_module_in_two_files(tmp_path: Path) -> None:
    """Under two names that mean the same."""
    config = write_config(tmp_path, PACKED)
    write_modules(tmp_path, config, packed_module)
    path = tmp_path / "model.safetensors"
    name = "layers.0.mlp.up_proj.weight_packed"
    tensors = load_file(path)
    save_file(tensors | {f"language_model.{name}": tensors[f"model.{name}"].clone()}, path)
    with pytest.raises(CheckpointError, match="is there twice, also as"):
        open_coded(tmp_path, config)


def write_gguf(folder: Path, config: ModelConfig, *, vocab: int = 37) -> Mapping[str, torch.Tensor]:
    """A network in Q4_0."""
    file, network = gguf_network(config, vocab=vocab)
    file.write(folder / "gemma-3-q4_0.gguf")
    return network


def test_a_gguf_checkpoint(tmp_path: Path) -> None:
    """Matrices of Q4_0 are the file's to the bit, norms hold one, and rows that the embedding lacks are zeros."""
    config = write_config(tmp_path)
    network = write_gguf(tmp_path, config)
    checkpoint = opened(tmp_path, config)
    assert checkpoint.norms_hold_one
    assert checkpoint.coded.keys() == matrix_shapes(config.text).keys() - {EMBEDDING}
    for name, source in checkpoint.coded.items():
        assert (source.kind, source.group, source.has_offsets, source.scale_dtype) == ("int4", 32, False, torch.float16)
        assert torch.equal(decode(source.read(0, source.shape[0], CPU)), network[name])
        assert torch.equal(decode(source.read(5, 40, CPU)), network[name][5:40])
    embedding = checkpoint.decoded[EMBEDDING]
    assert embedding.shape == (40, 128)
    assert torch.equal(embedding.read(0, 40, CPU)[:37], network[EMBEDDING])
    assert torch.equal(embedding.read(35, 40, CPU)[2:], torch.zeros(3, 128))
    assert torch.equal(embedding.read(38, 40, CPU), torch.zeros(2, 128))
    weights = load_weights(config, device=CPU, dtype=torch.float32, format="auto")
    assert torch.equal(weights.layers[1].q_norm, network["layers.1.self_attn.q_norm.weight"] + 1)
    assert torch.equal(weights.final_norm, network["norm.weight"] + 1)
    assert isinstance(weights.layers[0].o, CodedMatrix)
    assert torch.equal(decode(weights.layers[0].o), network["layers.0.self_attn.o_proj.weight"])


@pytest.mark.parametrize("swapped", [False, True])
def test_a_tower_in_gguf(tmp_path: Path, swapped: bool) -> None:
    """Its tensors have their places, also where an older converter exchanged two names; one is taken off its norm."""
    config = write_config(tmp_path, vision=True)
    write_gguf(tmp_path, config)
    file, tower = gguf_tower(config, swapped=swapped)
    file.write(tmp_path / "mmproj-model-f16.gguf")
    weights = load_weights(config, device=CPU, dtype=torch.float32, format="auto")
    assert weights.tower is not None
    found = dict(weights.tower.named_tensors())
    assert found.keys() == tower.keys()
    for name, tensor in tower.items():
        torch.testing.assert_close(found[name], tensor, rtol=0, atol=2e-7 if "soft_emb" in name else 0)


def test_a_tower_that_is_missing(tmp_path: Path) -> None:
    """The file that is wanted is named."""
    config = write_config(tmp_path, vision=True)
    write_gguf(tmp_path, config)
    with pytest.raises(CheckpointError, match=r"its mmproj\*\.gguf is missing: put it beside gemma-3-q4_0\.gguf"):
        open_coded(tmp_path, config)


def test_a_split_model(tmp_path: Path) -> None:
    """Its parts are read as one; a tensor that two of them have is refused."""
    config = write_config(tmp_path)
    file, network = gguf_network(config, vocab=40)
    first, second = list(file.tensors[:9]), list(file.tensors[9:])
    for number, tensors in ((1, first), (2, second)):
        file.tensors = tensors
        file.write(tmp_path / f"gemma-0000{number}-of-00002.gguf")
    checkpoint = opened(tmp_path, config)
    names = [*checkpoint.coded, *checkpoint.decoded, *(stored.name for stored in checkpoint.plain)]
    assert sorted(names) == sorted(network)
    file.tensors = [*second, first[1]]
    file.write(tmp_path / "gemma-00002-of-00002.gguf")
    with pytest.raises(CheckpointError, match=r"output_norm\.weight is there twice, also in .*00001-of-00002"):
        open_coded(tmp_path, config)


def refused_gguf(folder: Path, change: Any, reason: str) -> None:
    """A network in GGUF with something changed in it."""
    config = write_config(folder)
    file, _ = gguf_network(config, vocab=40)
    change(file)
    file.write(folder / "model.gguf")
    with pytest.raises(CheckpointError, match=reason):
        open_coded(folder, config)


def test_gguf_of_another_network(tmp_path: Path) -> None:
    """Is told by its architecture, or by a shape that config.json does not have."""

    def llama(file: Any) -> None:
        file.keys.clear()
        file.text_key("general.architecture", "llama")

    def wide(file: Any) -> None:
        file.tensors[-1] = (file.tensors[-1][0], (64,), 0, bytes(256))
        index = next(index for index, tensor in enumerate(file.tensors) if tensor[0] == "blk.0.attn_k.weight")
        file.tensors[index] = ("blk.0.attn_k.weight", (32, 128), 2, q4_0(32, 128)[0])

    refused_gguf(tmp_path, llama, "general.architecture is 'llama'; gemmad serves 'gemma3'")
    refused_gguf(tmp_path, wide, r"blk\.0\.attn_k\.weight is \[32, 128\], the config asks for \[64, 128\]")


def test_gguf_types_that_are_not_read(tmp_path: Path) -> None:
    """Are refused by the tensor's name and the type's."""

    def exchange(kind: int) -> Any:
        def change(file: Any) -> None:
            index = next(index for index, tensor in enumerate(file.tensors) if tensor[0] == "blk.1.ffn_down.weight")
            file.tensors[index] = ("blk.1.ffn_down.weight", (128, 256), kind, bytes(128 * 110))

        return change

    refused_gguf(tmp_path, exchange(11), r"blk\.1\.ffn_down\.weight is Q3_K; read are Q4_0, ")
    refused_gguf(tmp_path, exchange(20), r"blk\.1\.ffn_down\.weight is type 20; read are Q4_0, ")


def test_mixed_types_in_gguf(tmp_path: Path) -> None:
    """Q8_0 among parts of Q4_0 makes numbers of a merged matrix, and the plan knows which."""
    config = write_config(tmp_path)
    file, network = gguf_network(config, vocab=40)
    index = next(index for index, tensor in enumerate(file.tensors) if tensor[0] == "blk.1.attn_v.weight")
    block = torch.tensor([0.5], dtype=torch.float16).numpy().tobytes() + bytes(range(32))
    file.tensors[index] = ("blk.1.attn_v.weight", (64, 128), 8, block * (64 * 4))
    file.write(tmp_path / "model.gguf")
    checkpoint = opened(tmp_path, config)
    assert checkpoint.decoded.keys() == {f"layers.1.self_attn.{part}_proj.weight" for part in "qkv"}
    values = checkpoint.decoded["layers.1.self_attn.v_proj.weight"].read(1, 2, CPU)
    assert torch.equal(values.view(4, 32), (torch.arange(32) * 0.5).expand(4, 32))
    query = checkpoint.decoded["layers.1.self_attn.q_proj.weight"]
    assert torch.equal(query.read(0, 128, CPU), network["layers.1.self_attn.q_proj.weight"])
    told = coded_formats(tmp_path)
    assert told is not None
    assert (told.layers.kind, told.layers.group) == ("int4", 32)
    other = told.of(1, "qkv")
    assert other is not None
    assert other.kind == "int8"
    assert told.of(0, "qkv") == told.of(1, "down") == told.layers


def test_columns_that_do_not_fill_blocks(tmp_path: Path) -> None:
    """Cannot be kept as codes: their numbers are told."""
    config = write_config(tmp_path)
    file, network = gguf_network(config, vocab=40)
    narrow = replace(config, text=replace(config.text, intermediate_size=96))
    index = [index for index, tensor in enumerate(file.tensors) if "ffn_" in tensor[0] and tensor[2] == 2]
    for at in index:
        name = file.tensors[at][0]
        size = (128, 96) if "down" in name else (96, 128)
        file.tensors[at] = (name, size, 2, q4_0(*size)[0])
    file.write(tmp_path / "model.gguf")
    assert {"layers.0.mlp.down_proj.weight", "layers.1.mlp.down_proj.weight"} <= opened(tmp_path, narrow).decoded.keys()
    assert network
