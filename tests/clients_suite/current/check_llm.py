"""The `llm` command, told of the daemon by its `extra-openai-models.yaml`."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from pictures import red_square

PARIS = "The capital of France is Paris."
LLM = Path(sys.executable).with_name("llm")


@pytest.fixture
def home(tmp_path: Path, base_url: str, model: str) -> Path:
    """Its folder, with the settings that docs/clients.md tells."""
    (tmp_path / "extra-openai-models.yaml").write_text(
        f"- model_id: gemma\n  model_name: {model}\n  api_base: {base_url}\n"
        "  supports_tools: true\n  supports_schema: true\n  vision: true\n"
        f"- model_id: gemma-text\n  model_name: {model}\n  api_base: {base_url}\n  completion: true\n"
    )
    return tmp_path


def llm(home: Path, *words: str) -> str:
    """What the command prints."""
    env = {"PATH": os.environ["PATH"], "HOME": str(home), "LLM_USER_PATH": str(home), "OPENAI_API_KEY": "none"}
    done = subprocess.run(
        [LLM, *words], env=env, capture_output=True, text=True, timeout=120, stdin=subprocess.DEVNULL, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_prompt(home: Path) -> None:
    """Streamed and whole."""
    for more in ([], ["--no-stream"]):
        assert llm(home, "-m", "gemma", "-o", "temperature", "0", *more, "What is the capital of France?") == PARIS


def test_conversation(home: Path) -> None:
    """`-c` goes on."""
    llm(home, "-m", "gemma", "-o", "temperature", "0", "My name is Ada.")
    assert "Ada" in llm(home, "-c", "-o", "temperature", "0", "What is my name?")


def test_schema(home: Path) -> None:
    """`--schema` holds the reply."""
    schema = {
        "type": "object",
        "properties": {"sure": {"type": "boolean"}},
        "required": ["sure"],
        "additionalProperties": False,
    }
    said = llm(home, "-m", "gemma", "-o", "temperature", "0", "--schema", json.dumps(schema), "Are you?")
    assert isinstance(json.loads(said)["sure"], bool)


def test_tools_are_told(home: Path) -> None:
    """A tool of its own is told; whether it is called is the model's affair."""
    llm(home, "-m", "gemma", "-o", "temperature", "0", "-o", "max_tokens", "60", "-T", "llm_version", "Which version?")


def test_picture(home: Path) -> None:
    """`-a` attaches one."""
    picture = home / "red.png"
    picture.write_bytes(base64.b64decode(red_square().partition(",")[2]))
    assert "red" in llm(home, "-m", "gemma", "-o", "temperature", "0", "-a", str(picture), "What is it?")


def test_completion_model(home: Path) -> None:
    """`completion: true` asks `/v1/completions`."""
    assert llm(home, "-m", "gemma-text", "-o", "temperature", "0", "-o", "max_tokens", "8", "Once upon a time")
