"""Where a chaos run takes place: the bundled model on the CPU, or a network of a published shape on every GPU."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from msgspec import Struct

from tests.chaos.questions import Question, held_questions, questions
from tests.process.daemon import MODEL

SMALL = """\
[engine]
max_sequences = 16

[workers]
count = 2
cpu_threads = 1
hang_timeout = 4
restart_budget = 100000
restart_pause = 0.05
restart_pause_limit = 0.2
"""
"""What the daemon begins with. Workers that are killed every few seconds are no reason to give up here."""

WIDE = """\
[engine]
max_sequences = 64
max_context = 8192

[memory]
fraction = {fraction}

[workers]
hang_timeout = 8
restart_budget = 100000
restart_pause = 0.05
restart_pause_limit = 0.2
"""
_OF_THE_TEXT = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "generation_config.json")
_IDS = ("boi_token_index", "eoi_token_index", "image_token_index", "bos_token_id", "eos_token_id", "pad_token_id")


class Ground(Struct, frozen=True, kw_only=True):
    """What is served, how, and what is asked."""

    config: str
    """The file that the daemon begins with, and comes back to."""
    flags: tuple[str, ...]
    """Of `gemmad serve`."""
    env: dict[str, str]
    questions: tuple[Question, ...]
    start_seconds: float
    """Until it must be ready."""


def small_ground() -> Ground:
    """Two workers on the CPU with the bundled model. Its answers are the same each time, so they are held to those."""
    return Ground(
        config=SMALL,
        flags=("--demo",),
        env={"GEMMAD_ENGINE__DEVICE": "cpu"},
        questions=questions(),
        start_seconds=60.0,
    )


def wide_ground(folder: Path, *, shape: str, fraction: float) -> Ground:
    """One worker on each GPU with a network of a published shape, whose weights are made up and written to `folder`.

    Which sequences share a step decides how a GPU rounds, and made-up weights know no clear answer. So every reply is
    held to one text by a grammar: a token that is lost, repeated or out of place cannot lead to it.
    """
    if not (folder / "config.json").exists():
        _make_checkpoint(folder, shape)
    return Ground(
        config=WIDE.format(fraction=fraction),
        flags=("--model", str(folder)),
        env={"GEMMAD_ENGINE__DEVICE": "cuda", "GEMMAD_MODEL__SERVED_NAMES": json.dumps([MODEL])},
        questions=held_questions(),
        start_seconds=240.0,
    )


def _make_checkpoint(folder: Path, shape: Any) -> None:
    import torch

    from gemmad.bench.export import write_checkpoint
    from gemmad.bench.shapes import write_shape
    from gemmad.bench.subject import free_device
    from gemmad.demo import CHECKPOINT
    from gemmad.models.config import read_config
    from gemmad.models.weights import random_weights

    folder.mkdir(parents=True, exist_ok=True)
    write_shape(shape, folder)
    for name in _OF_THE_TEXT:
        shutil.copy(CHECKPOINT / name, folder / name)
    ours, theirs = (json.loads((path / "config.json").read_text()) for path in (folder, CHECKPOINT))
    (folder / "config.json").write_text(json.dumps(ours | {name: theirs[name] for name in _IDS if name in theirs}))
    device = torch.device("cuda:0")
    weights = random_weights(read_config(folder), device=device, dtype=torch.bfloat16)
    write_checkpoint(read_config(folder), weights, folder)
    del weights
    free_device(device)
