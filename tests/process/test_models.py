"""A model that is missing or broken: the daemon is up, says what mends it, and serves once it is mended."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from openai import APIStatusError

import gemmad.demo
from tests.fakes.hub import fake_hub, files_of
from tests.fakes.worker import Behaviour, Faults
from tests.process.daemon import DaemonProcess, start_fake

CHECKPOINT = Path(gemmad.demo.__file__).parent / "checkpoint"
NAME = "google/gemma-3-demo"
EXIT_CONFIG = 78


def run(daemon: DaemonProcess, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    """A verb beside the daemon."""
    told = {f"GEMMAD_{name}_DIR": str(daemon.folder / name.lower()) for name in ("CONFIG", "STATE", "CACHE", "RUNTIME")}
    command = [sys.executable, "-m", "gemmad", *arguments]
    return subprocess.run(command, env={**os.environ, **told, **env}, capture_output=True, text=True, check=False)


def start(folder: Path, model: object, behaviour: Behaviour | None = None, **settings: Any) -> DaemonProcess:
    return start_fake(folder, behaviour, model__path=model, model__served_names="", **settings)


def state(daemon: DaemonProcess) -> str:
    return str(daemon.get("/health")[1]["status"])


def refusal(daemon: DaemonProcess, model: str) -> APIStatusError:
    with daemon.client() as client, pytest.raises(APIStatusError) as caught:
        client.chat.completions.create(model=model, messages=[{"role": "user", "content": "Hi"}])
    return caught.value


def answer(daemon: DaemonProcess, model: str) -> str:
    with daemon.client() as client:
        said = client.chat.completions.create(model=model, messages=[{"role": "user", "content": "Hi"}], max_tokens=5)
    return said.choices[0].finish_reason


def test_a_model_that_is_pulled_while_the_daemon_waits(tmp_path: Path) -> None:
    """Without its model the daemon is up: health, status and requests name the command that brings it; once that has
    run, it serves by itself, under the model's whole and short name, and the model cannot be removed."""
    with fake_hub(NAME, files_of(CHECKPOINT)) as hub, start(tmp_path, NAME) as daemon:
        daemon.wait_listening()
        daemon.wait_until(lambda: state(daemon) == "no_model")
        status, health = daemon.get("/health")
        assert (status, health["remedy"]) == (503, f"`gemmad pull {NAME}`")
        assert f"{NAME} is not here" in health["reason"]
        assert daemon.get("/health/live")[0] == 200
        refused = refusal(daemon, NAME)
        assert refused.status_code == 503
        assert f"gemmad pull {NAME}" in refused.message
        assert str(tmp_path) not in refused.message
        assert refused.response.headers["x-should-retry"] == "true"
        assert 1 <= int(refused.response.headers["retry-after"]) <= 120
        seen = run(daemon, "status")
        assert seen.returncode == 1
        assert f"gemmad pull {NAME}" in seen.stdout
        assert "without a model" in seen.stdout

        pulled = run(daemon, "pull", NAME, HF_ENDPOINT=hub.url, HF_HOME=str(tmp_path / "hf"))
        assert pulled.returncode == 0, pulled.stderr
        daemon.wait_ready()
        assert daemon.get("/v1/models")[1]["data"][0]["id"] == NAME
        assert answer(daemon, NAME) == answer(daemon, "gemma-3-demo") == "length"
        assert "reason" not in daemon.get("/health")[1]
        removed = run(daemon, "rm", NAME)
        assert (removed.returncode, "the running daemon serves" in removed.stderr) == (1, True)
        assert daemon.stop() == 0


def test_a_folder_that_appears(tmp_path: Path) -> None:
    """A folder that is not there is waited for, and served once it is."""
    folder = tmp_path / "mine"
    with start(tmp_path, folder) as daemon:
        daemon.wait_listening()
        daemon.wait_until(lambda: state(daemon) == "no_model")
        assert f"{folder}: no such folder" in daemon.get("/health")[1]["reason"]
        shutil.copytree(CHECKPOINT, folder)
        daemon.wait_ready()
        assert answer(daemon, "mine") == "length"


@pytest.mark.parametrize(
    ("file", "content", "words"),
    [
        ("config.json", None, "config.json"),
        ("config.json", "{", "not JSON"),
        ("config.json", '{"model_type": "llama"}', "model_type is 'llama'"),
        ("tokenizer.json", None, "tokenizer.json: missing"),
        ("tokenizer.json", "{}", "tokenizer.json"),
        ("chat_template.jinja", "{% if %}", "chat_template.jinja"),
        ("preprocessor_config.json", '{"do_resize": false}', "preprocessor_config.json"),
        ("model.safetensors", None, "no weights"),
    ],
)
def test_a_broken_checkpoint(tmp_path: Path, file: str, content: str | None, words: str) -> None:
    """A broken checkpoint is told with the file's name, leaves the daemon up, and is served once the file is mended."""
    folder = tmp_path / "model"
    shutil.copytree(CHECKPOINT, folder)
    (folder / file).unlink()
    if file == "preprocessor_config.json":
        (folder / "processor_config.json").unlink()
    if content is not None:
        (folder / file).write_text(content)
    with start(tmp_path, folder) as daemon:
        daemon.wait_listening()
        daemon.wait_until(lambda: state(daemon) == "no_model")
        reason = daemon.get("/health")[1]["reason"]
        assert str(folder) in reason
        assert words in reason
        assert "Traceback" not in daemon.log
        shutil.copy(CHECKPOINT / file, folder)
        daemon.wait_ready()
        assert answer(daemon, "model") == "length"
        assert daemon.stop() == 0


def test_weights_that_no_worker_can_load(tmp_path: Path) -> None:
    """When every worker has refused the checkpoint, a change of its files makes them try again."""
    folder = tmp_path / "model"
    shutil.copytree(CHECKPOINT, folder)
    with start(tmp_path, folder, Behaviour(faults=Faults(load_exit=3, last_words="wrong shape"))) as daemon:
        daemon.wait_listening()
        daemon.wait_until(lambda: state(daemon) == "failed")
        before = len(daemon.events("worker state"))
        shutil.copy(folder / "model.safetensors", folder / "new")
        (folder / "new").rename(folder / "model.safetensors")
        daemon.wait_until(lambda: len(daemon.events("worker state")) > before)
        daemon.wait_until(lambda: state(daemon) == "failed")
        assert daemon.stop() == 0


def test_a_model_that_is_missing_can_be_stopped_for(tmp_path: Path) -> None:
    """A daemon that waits for its model ends when it is asked to, and leaves nothing."""
    with start(tmp_path, NAME) as daemon:
        daemon.wait_listening()
        daemon.wait_until(lambda: state(daemon) == "no_model")
        assert daemon.stop() == 0
        assert not daemon.address_file.exists()


def test_no_model_at_all(tmp_path: Path) -> None:
    """Where no model is set there is nothing to wait for: that is a wrong setting, and it says what to write."""
    with DaemonProcess([sys.executable, "-m", "gemmad", "serve", "--port", "0"], tmp_path) as daemon:
        assert daemon.wait() == EXIT_CONFIG
        assert "gemmad pull google/" in daemon.log
        assert "Traceback" not in daemon.log
