"""The demo checkpoint, and copies of it to change."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gemmad.demo import CHECKPOINT
from gemmad.text.checkpoint import TextModel

Edit = Callable[[dict[str, Any]], None]
"""Changes a JSON file's content in place."""

Change = Callable[..., Path]
"""`change(generation_config=edit, …)`: a copy of the demo's text files with some edited."""


@pytest.fixture(scope="session")
def demo() -> TextModel:
    return TextModel.load(CHECKPOINT)


@pytest.fixture
def change(tmp_path: Path) -> Change:
    def change_demo(**edits: Edit) -> Path:
        return copy_demo(tmp_path / "checkpoint", **edits)

    return change_demo


def copy_demo(target: Path, **edits: Edit) -> Path:
    """The demo's files without its weights, each JSON file that is named edited."""
    shutil.copytree(CHECKPOINT, target, ignore=shutil.ignore_patterns("*.safetensors"))
    for name, edit in edits.items():
        path = target / f"{name}.json"
        content = json.loads(path.read_text()) if path.exists() else {}
        edit(content)
        path.write_text(json.dumps(content))
    return target


def add_newline_tokens(tokenizer: dict[str, Any]) -> None:
    """As in the checkpoints on the hub: newlines, spaces and unused tokens are added tokens, and not special."""
    vocabulary: dict[str, int] = tokenizer["model"]["vocab"]
    free = max(vocabulary.values()) + 1
    for content in ("\n", "\n\n", "\n\n\n", "\n\n\n\n", "▁▁", "▁▁▁", "<unused0>", "[multimodal]"):
        token_id = vocabulary.get(content)
        if token_id is None:
            token_id = vocabulary[content] = free
            free += 1
        flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized", "special"), False)
        tokenizer["added_tokens"].append({"id": token_id, "content": content, **flags})
    tokenizer["added_tokens"].sort(key=lambda token: token["id"])
