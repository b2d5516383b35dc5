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
