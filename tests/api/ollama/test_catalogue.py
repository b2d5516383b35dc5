"""How editors find the model by themselves."""

from __future__ import annotations

import json
from pathlib import Path

import httpx
import pytest
from ollama import Client, ResponseError

from gemmad.api.ollama.catalogue import read_checkpoint
from gemmad.supervisor.listener import Outlook
from tests.api.stage import CHECKPOINT, MODEL, Stage
from tests.process.quantised import write_gguf


def test_version(http: httpx.Client) -> None:
    """Editors ask for 0.6.4 at least."""
    version = http.get("/api/version").json()["version"]
    assert tuple(map(int, version.split("."))) >= (0, 6, 4)


def test_tags(ollama: Client) -> None:
    """Every name is a model, by the name that OpenAI's routes take too."""
    models = ollama.list().models
    assert [model.model for model in models] == [MODEL, "gemma"]
    first = models[0]
    assert first.size == (CHECKPOINT / "model.safetensors").stat().st_size
    assert first.digest
    assert len(first.digest) == 64
    assert first.modified_at
    assert first.details
    assert (first.details.family, first.details.quantization_level) == ("gemma3", "BF16")


def test_show(stage: Stage, ollama: Client) -> None:
    """What Copilot reads: capabilities, architecture, context and basename; and what others read besides."""
    shown = ollama.show(f"{MODEL}:latest")
    assert shown.capabilities == ["completion", "tools", "vision"]
    assert shown.modelinfo
    assert shown.modelinfo["general.architecture"] == "gemma3"
    assert shown.modelinfo["general.basename"] == MODEL
    assert shown.modelinfo["gemma3.context_length"] == 8192
    assert shown.modelinfo["general.parameter_count"] > 1_000_000
    assert shown.template == stage.text.template.source
    assert shown.parameters
    assert shown.parameters.split() == ["temperature", "1", "top_k", "64", "top_p", "0.95"]
    assert shown.modified_at


def test_show_by_the_older_field(http: httpx.Client) -> None:
    """Old clients call the model `name`."""
    assert http.post("/api/show", json={"name": MODEL}).json()["details"]["family"] == "gemma3"


def test_show_of_another_model(ollama: Client) -> None:
    """A model that is not served is not found."""
    with pytest.raises(ResponseError) as caught:
        ollama.show("llama3")
    assert caught.value.status_code == 404


def test_ps(stage: Stage, ollama: Client) -> None:
    """The model runs once a worker has it."""
    [running] = ollama.ps().models
    assert (running.name, running.context_length) == (MODEL, 8192)
    assert running.expires_at
    stage.call(lambda: stage.worker.leave(Outlook.LOADING))
    assert list(ollama.ps().models) == []


def test_without_a_model(stage: Stage, ollama: Client) -> None:
    """A daemon without a model has none to tell of."""
    with stage.settings(model={"path": None, "served_names": ()}):
        assert list(ollama.list().models) == []
        assert list(ollama.ps().models) == []


def test_the_number_format_is_the_checkpoints(tmp_path: Path) -> None:
    """It is read from the checkpoint, by the newer or the older key."""
    config = json.loads((CHECKPOINT / "config.json").read_text())
    del config["dtype"]
    for keys, told in (({"torch_dtype": "float32"}, "F32"), ({"dtype": "float16"}, "F16"), ({}, "unknown")):
        (tmp_path / "config.json").write_text(json.dumps(config | keys))
        assert read_checkpoint(tmp_path).number_format == told


def test_a_checkpoint_in_gguf(tmp_path: Path) -> None:
    """It is told by its own file format, size and codes."""
    folder = write_gguf(tmp_path / "demo")
    told = read_checkpoint(folder)
    assert (told.file_format, told.number_format) == ("gguf", "INT4")
    assert told.size_bytes == sum(path.stat().st_size for path in folder.glob("*.gguf"))
    assert read_checkpoint(CHECKPOINT).file_format == "safetensors"
