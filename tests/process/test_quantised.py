"""What comes quantised, and what is quantised at load, served from end to end: the daemon, its worker and the SDK."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from openai import OpenAI
from PIL import Image, ImageDraw

from tests.fakes.media_pictures import data_url, saved
from tests.process.daemon import DaemonProcess, start_demo
from tests.process.quantised import INT4, INT8, write_awq, write_compressed, write_gguf, write_gptq, write_mixed_gguf

COUNTED = "1, 2, 3, 4, 5, 6, 7, 8, 9, 10."
SEEN = "A red circle."
LAYERS = 6


def answers(client: OpenAI) -> tuple[str | None, str | None]:
    """To a question, and to one about a picture."""
    image = Image.new("RGB", (96, 96), "white")
    ImageDraw.Draw(image).ellipse((20, 20, 76, 76), fill="red")
    picture = {"type": "image_url", "image_url": {"url": data_url(saved(image, "PNG"))}}
    return (
        ask(client, "Count to 10."),
        ask(client, [picture, {"type": "text", "text": "What is in the picture?"}]),
    )


def ask(client: OpenAI, content: Any) -> str | None:
    (model,) = client.models.list().data
    reply = client.chat.completions.create(
        model=model.id, messages=[{"role": "user", "content": content}], temperature=0, max_tokens=40
    )
    return reply.choices[0].message.content


def start(folder: Path, model: Path) -> DaemonProcess:
    """`gemmad serve --model FOLDER`, on a free port and on the CPU."""
    command = [sys.executable, "-m", "gemmad", "serve", "--model", str(model), "--port", "0"]
    return DaemonProcess(command, folder, env={"GEMMAD_ENGINE__DEVICE": "cpu"})


def loaded(daemon: DaemonProcess) -> dict[str, Any]:
    """What the worker said of its weights."""
    (event,) = daemon.events("weights loaded")
    return event


@pytest.mark.parametrize(
    ("write", "format"),
    [
        (partial(write_compressed, weights=INT8), "int8"),
        (partial(write_compressed, weights=INT4), "int4"),
        (write_awq, "int4"),
        (write_gptq, "int4"),
        (write_gguf, "int4"),
    ],
    ids=["compressed-int8", "compressed-int4", "awq", "gptq", "gguf"],
)
def test_a_checkpoint_that_comes_quantised(tmp_path: Path, write: Callable[[Path], Path], format: str) -> None:
    """It is served as it comes, in the codes that it holds, sees pictures, and answers as the plain model does."""
    with start(tmp_path, write(tmp_path / "demo")) as daemon:
        daemon.wait_ready()
        with daemon.client() as client:
            said = answers(client)
        assert loaded(daemon)["format"] == format
        assert daemon.events("matrices are coded anew") == []
    assert said == (COUNTED, SEEN)


def test_a_checkpoint_of_several_formats(tmp_path: Path) -> None:
    """What there is no layout for is coded anew and all else kept, from several files; the answers are the same."""
    with start(tmp_path, write_mixed_gguf(tmp_path / "demo")) as daemon:
        daemon.wait_ready()
        with daemon.client() as client:
            assert answers(client) == (COUNTED, SEEN)
        (event,) = daemon.events("matrices are coded anew")
        assert (event["kind"], event["matrices"]) == ("int8", LAYERS + 1)  # each `down`, and the embedding


def test_eight_bits_for_weights_and_cache(tmp_path: Path) -> None:
    """By two settings, with the plain model's answers; the second start reads the codes that the first has kept."""
    env = {"GEMMAD_ENGINE__WEIGHTS": "int8", "GEMMAD_ENGINE__KV": "int8"}
    with start_demo(tmp_path, env=env) as daemon:
        daemon.wait_ready()
        with daemon.client() as client:
            assert answers(client) == (COUNTED, SEEN)
        assert loaded(daemon)["from_copy"] is False
        daemon.wait_until(lambda: daemon.events("coded weights copied"))
    with start_demo(tmp_path, env=env) as daemon:
        daemon.wait_ready()
        with daemon.client() as client:
            assert answers(client) == (COUNTED, SEEN)
        assert loaded(daemon)["from_copy"] is True


def test_a_gguf_without_its_small_files(tmp_path: Path) -> None:
    """The daemon stays up, says what is missing and where it is from, and serves once it is there."""
    model = write_gguf(tmp_path / "demo")
    held = {name: (model / name).read_bytes() for name in ("config.json", "tokenizer.json")}
    for name in held:
        (model / name).unlink()
    with start(tmp_path, model) as daemon:
        daemon.wait_listening()
        daemon.wait_until(lambda: daemon.events("no model"))
        (event,) = daemon.events("no model")
        assert "demo-q4_0.gguf has no config.json and no tokenizer.json beside it" in event["reason"]
        assert "google/gemma-3-12b-it" in event["reason"]
        for name, content in held.items():
            (model / name).write_bytes(content)
        daemon.wait_ready()


def test_a_gguf_without_its_tower(tmp_path: Path) -> None:
    """The worker says which file is missing, and begins again once it is there."""
    model, whole = write_gguf(tmp_path / "demo", tower=False), write_gguf(tmp_path / "whole")
    with start(tmp_path, model) as daemon:
        daemon.wait_listening()
        daemon.wait_until(lambda: any(event["state"] == "failed" for event in daemon.events("worker state")))
        assert (
            "its mmproj*.gguf is missing: put it beside demo-q4_0.gguf" in daemon.events("worker state")[-1]["reason"]
        )
        (whole / "mmproj-demo-f32.gguf").rename(model / "mmproj-demo-f32.gguf")
        daemon.wait_ready()
