"""A folder that cannot be served says which file is to blame."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from gemmad.demo import CHECKPOINT
from gemmad.errors import CheckpointError
from gemmad.models.config import read_config
from gemmad.models.weights import load_weights


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the bundled checkpoint, to be broken."""
    return Path(shutil.copytree(CHECKPOINT, tmp_path / "checkpoint"))


def load(folder: Path) -> Any:
    """Config and weights, as a worker reads them."""
    return load_weights(read_config(folder), device=torch.device("cpu"), dtype=torch.float32)


def edit(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change config.json in place."""
    path = folder / "config.json"
    config = json.loads(path.read_text())
    change(config)
    path.write_text(json.dumps(config))


def test_no_folder(tmp_path: Path) -> None:
    """A missing folder is named."""
    with pytest.raises(CheckpointError, match=r"nowhere/config\.json is missing"):
        load(tmp_path / "nowhere")


@pytest.mark.parametrize("content", ["", "{", "[]", '"gemma3"', "\x00"])
def test_broken_config(folder: Path, content: str) -> None:
    """What is no JSON object is refused by name."""
    (folder / "config.json").write_text(content)
    with pytest.raises(CheckpointError, match=r"config\.json"):
        load(folder)


def test_another_network(folder: Path) -> None:
    """A model of another kind is refused before its weights are read."""
    edit(folder, lambda c: c.update(model_type="llama"))
    with pytest.raises(CheckpointError, match="'llama'"):
        load(folder)


@pytest.mark.parametrize("name", ["attn_logit_softcapping", "attention_bias", "hidden_activation"])
def test_an_unknown_turn_of_the_network(folder: Path, name: str) -> None:
    """A setting that would change the network's numbers is refused, not ignored."""
    value = {"attn_logit_softcapping": 50.0, "attention_bias": True, "hidden_activation": "relu"}[name]
    edit(folder, lambda c: c["text_config"].update({name: value}))
    with pytest.raises(CheckpointError, match=name):
        load(folder)


def test_no_weights(folder: Path) -> None:
    """Missing weights are named."""
    (folder / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"model\.safetensors is missing"):
        load(folder)


def test_truncated_weights(folder: Path) -> None:
    """A download that broke off is named."""
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:100_000])
    with pytest.raises(CheckpointError, match=r"model\.safetensors is broken"):
        load(folder)


def test_a_tensor_is_missing(folder: Path) -> None:
    """A checkpoint without one of its tensors says which."""
    path = folder / "model.safetensors"
    tensors = load_file(path)
    name = next(n for n in tensors if n.endswith("layers.1.mlp.up_proj.weight"))
    del tensors[name]
    save_file(tensors, path)
    with pytest.raises(CheckpointError, match=r"layers\.1\.mlp\.up_proj"):
        load(folder)


def test_a_tensor_of_another_shape(folder: Path) -> None:
    """Weights that do not fit the config are refused with both shapes."""
    edit(folder, lambda c: c["text_config"].update(intermediate_size=256))
    with pytest.raises(CheckpointError, match=r"config asks for \[256, 128\]|config asks for \[128, 256\]"):
        load(folder)


def rewrite(folder: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> str:
    """Change the weights in place; the name of one of them."""
    path = folder / "model.safetensors"
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path)
    return next(name for name in tensors if name.endswith("layers.0.self_attn.q_proj.weight"))


def shards(folder: Path, files: dict[str, dict[str, torch.Tensor]], **index: str) -> None:
    """Replace the weights by these files, with an index that lists them and what `index` says on top."""
    for file, tensors in files.items():
        save_file(tensors, folder / file)
    (folder / "model.safetensors").unlink()
    names = {name: file for file, tensors in files.items() for name in tensors}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": names | index}))


def test_weights_of_a_kind_that_is_not_read(folder: Path) -> None:
    """Integers in place of weights are refused with the tensor's name, never taken for numbers of another kind."""

    def quantise(tensors: dict[str, torch.Tensor]) -> None:
        for name in [name for name in tensors if name.endswith("q_proj.weight")]:
            tensors[name] = tensors[name].to(torch.int8)

    rewrite(folder, quantise)
    with pytest.raises(CheckpointError, match=r"q_proj\.weight is I8; weights are read from F64, F32, F16, BF16"):
        load(folder)


def test_what_the_network_has_no_place_for(folder: Path) -> None:
    """Tensors beyond the network's own are left alone, whatever they are made of."""
    extra = {"lm_head.weight": torch.zeros(3, dtype=torch.int8), "vision_tower.vision_model.head.probe": torch.zeros(0)}
    rewrite(folder, lambda tensors: tensors.update(extra))
    assert torch.equal(load(folder).embedding, load(CHECKPOINT).embedding)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.float64])
def test_weights_of_another_dtype(folder: Path, dtype: torch.dtype) -> None:
    """The same numbers in another floating dtype are the same weights, norms included."""
    rewrite(folder, lambda tensors: tensors.update({name: t.to(dtype) for name, t in tensors.items()}))
    expected = {name: t.to(dtype) for name, t in load_file(CHECKPOINT / "model.safetensors").items()}
    name = next(name for name in expected if name.endswith("layers.0.input_layernorm.weight"))
    found, rounded = load(folder), load_weights(read_config(folder), device=torch.device("cpu"), dtype=torch.bfloat16)
    assert torch.equal(found.layers[0].input_norm, expected[name].float() + 1)
    assert torch.equal(rounded.layers[0].input_norm, expected[name].float() + 1)
    embedding = next(tensor for name, tensor in expected.items() if "embed_tokens" in name)
    assert torch.equal(found.embedding, embedding.float())
    assert isinstance(rounded.embedding, torch.Tensor)
    assert torch.equal(rounded.embedding, embedding.bfloat16())


def test_the_same_tensor_twice(folder: Path) -> None:
    """Two tensors for one place, in two files or under an older and a newer name, are refused with both names."""
    tensors = load_file(folder / "model.safetensors")
    name = next(name for name in tensors if name.endswith("layers.0.self_attn.q_proj.weight"))
    older = name.replace("model.language_model.", "language_model.model.")
    shards(folder, {"model-00001.safetensors": tensors, "model-00002.safetensors": {older: tensors[name]}})
    with pytest.raises(
        CheckpointError, match=rf"00002\.safetensors: {older} is there twice, also as {name} in .*00001"
    ):
        load(folder)


def test_a_missing_shard(folder: Path) -> None:
    """A file that the index names and nobody downloaded is named."""
    tensors = load_file(folder / "model.safetensors")
    shards(folder, {"model-00001-of-00002.safetensors": tensors}, other="model-00002-of-00002.safetensors")
    with pytest.raises(CheckpointError, match=r"model-00002-of-00002\.safetensors is missing"):
        load(folder)


@pytest.mark.parametrize(
    ("index", "words"),
    [
        ("{", "cannot be read"),
        ("{}", "cannot be read"),
        ('{"weight_map": []}', "cannot be read"),
        ('{"weight_map": {"a": "../model.safetensors"}}', "no file beside it"),
        ('{"weight_map": {"a": "/etc/passwd"}}', "no file beside it"),
    ],
)
def test_a_broken_index(folder: Path, index: str, words: str) -> None:
    """An index that says nothing, or leads out of the folder, is refused by name."""
    (folder / "model.safetensors.index.json").write_text(index)
    with pytest.raises(CheckpointError, match=rf"model\.safetensors\.index\.json.* {words}"):
        load(folder)


def test_how_long_it_took_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """One line tells bytes, seconds, speed and threads; the share done begins at nothing and ends at all."""
    told: list[float] = []
    caplog.set_level("INFO")
    load_weights(read_config(CHECKPOINT), device=torch.device("cpu"), dtype=torch.bfloat16, progress=told.append)
    assert (told[0], told[-1]) == (0.0, 1.0)
    (record,) = [record for record in caplog.records if record.name == "gemmad.models.weights"]
    fields: Any = record.msg
    assert fields["event"] == "weights loaded"
    assert fields["bytes"] == sum(tensor.nbytes for tensor in load_file(CHECKPOINT / "model.safetensors").values())
    assert fields["seconds"] >= 0
    assert fields["gigabytes_per_second"] > 0
    assert fields["threads"] >= 1


def test_older_and_sharded_names_load_the_same(folder: Path) -> None:
    """Weights under the hub's older prefixes, spread over two files, are the same weights."""
    tensors = load_file(folder / "model.safetensors")
    older = {
        name.replace("model.language_model.", "language_model.model.")
        .replace("model.vision_tower.", "vision_tower.")
        .replace("model.multi_modal_projector.", "multi_modal_projector."): tensor
        for name, tensor in tensors.items()
    }
    names = sorted(older)
    files = {"model-00001-of-00002.safetensors": names[::2], "model-00002-of-00002.safetensors": names[1::2]}
    for file, members in files.items():
        save_file({name: older[name] for name in members}, folder / file)
    (folder / "model.safetensors").unlink()
    index = {"weight_map": {name: file for file, members in files.items() for name in members}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    ours, theirs = load(folder), load(CHECKPOINT)
    assert torch.equal(ours.embedding, theirs.embedding)
    for a, b in zip(ours.layers, theirs.layers, strict=True):
        assert all(torch.equal(x, y) for x, y in zip(vars(a).values(), vars(b).values(), strict=True))
    for (_, x), (_, y) in zip(ours.tower.named_tensors(), theirs.tower.named_tensors(), strict=True):
        assert torch.equal(x, y)
