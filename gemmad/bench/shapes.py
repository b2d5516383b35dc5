"""Folders that describe a network and hold no weights: Gemma 3's published shapes, and the first layers of any."""

from __future__ import annotations

import copy
import json
import random
from pathlib import Path
from typing import Any

from gemmad.bench.wanted import ShapeName
from gemmad.demo import CHECKPOINT
from gemmad.planning.shape import PUBLISHED

_STOP_ID = 3
"""Of the bundled tokenizer, which stands in where there is none."""
_SCALED = {"rope_scaling": {"rope_type": "linear", "factor": 8.0}}
_ATTENTION_SCALARS: dict[ShapeName, int] = {"27b": 168}
"""Where it is not the default, which is 256."""


def config_json(shape: ShapeName) -> dict[str, Any]:
    """The config.json of a published shape; what it leaves out has the defaults of transformers' config classes."""
    config = copy.deepcopy(dict(PUBLISHED[shape]))
    text = config.get("text_config", config)
    if shape in _ATTENTION_SCALARS:
        text["query_pre_attn_scalar"] = _ATTENTION_SCALARS[shape]
    if "vision_config" in config:
        text |= {"model_type": "gemma3_text"} | _SCALED
        config["vision_config"] |= {"model_type": "siglip_vision_model", "vision_use_head": False}
        config["mm_tokens_per_image"] = 256
    return config


def preprocessor_json(config: dict[str, Any]) -> dict[str, Any] | None:
    """The preprocessor_config.json that goes with a config; None for a text-only one."""
    if "vision_config" not in config:
        return None
    side = config["vision_config"]["image_size"]
    return {
        "image_processor_type": "Gemma3ImageProcessor",
        "image_seq_length": config["mm_tokens_per_image"],
        "size": {"height": side, "width": side},
    }


def first_layers(config: dict[str, Any], count: int) -> dict[str, Any]:
    """The config of a network that is only the first `count` layers of another."""
    whole = dict(config)
    if "text_config" in whole:
        whole["text_config"] = first_layers(whole["text_config"], count)
        return whole
    whole["num_hidden_layers"] = count
    if whole.get("layer_types") is not None:
        whole["layer_types"] = whole["layer_types"][:count]
    return whole


def write_shape(shape: ShapeName, folder: Path, *, layers: int | None = None) -> None:
    """Make `folder` a checkpoint without weights; `layers` keeps only the first so many."""
    config = config_json(shape) if layers is None else first_layers(config_json(shape), layers)
    preprocessor = preprocessor_json(config)
    _write(folder / "config.json", config)
    _write(folder / "generation_config.json", {"eos_token_id": [_STOP_ID]})
    if preprocessor is not None:
        _write(folder / "preprocessor_config.json", preprocessor)


def write_vocabulary(folder: Path, *, tokens: int) -> None:
    """Give a folder without a tokenizer one with so many tokens: the bundled one's, and then words made of syllables,
    of lengths as in Gemma's own. No text is ever tokenised with them; a grammar must look at each."""
    tokenizer = json.loads((CHECKPOINT / "tokenizer.json").read_text("utf-8"))
    vocabulary: dict[str, int] = tokenizer["model"]["vocab"]
    chance = random.Random(0)  # noqa: S311 - words, not secrets
    syllables = [first + vowel + last for first in "bcdfghklmnprstvw" for vowel in "aeiou" for last in ("", *"lnrst")]
    while len(vocabulary) < tokens:
        word = "".join(chance.choices(syllables, k=chance.choices((1, 2, 3, 4), (1, 4, 3, 1))[0]))
        word = chance.choice(("", "▁")) + chance.choice((word, word, word.title(), word.upper()))
        vocabulary.setdefault(word, len(vocabulary))
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer, ensure_ascii=False), "utf-8")
    for name in ("tokenizer_config.json", "chat_template.jinja"):
        (folder / name).write_bytes((CHECKPOINT / name).read_bytes())


def link_first_layers(source: Path, folder: Path, *, layers: int) -> None:
    """Make `folder` the checkpoint `source`, cut to its first layers: the same files but for the config."""
    for path in source.iterdir():
        if path.name != "config.json":
            (folder / path.name).symlink_to(path.resolve())
    _write(folder / "config.json", first_layers(json.loads((source / "config.json").read_text("utf-8")), layers))


def _write(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n", "utf-8")
