from __future__ import annotations

import json
from pathlib import Path
from typing import get_args

import pytest
from transformers import AutoConfig

from gemmad.bench.shapes import config_json, link_first_layers, write_shape, write_vocabulary
from gemmad.bench.wanted import ShapeName
from gemmad.demo import CHECKPOINT
from gemmad.media.spec import ImageSpec
from gemmad.models.config import read_config
from gemmad.planning.shape import PUBLISHED

NAMES: tuple[ShapeName, ...] = get_args(ShapeName)


def test_every_published_shape_can_be_measured() -> None:
    """The names on the command line are those that a plan knows."""
    assert set(NAMES) == set(PUBLISHED)


@pytest.mark.parametrize("name", NAMES)
def test_transformers_reads_a_shape_as_we_do(name: ShapeName, tmp_path: Path) -> None:
    """The made-up config.json gives the same network to both."""
    write_shape(name, tmp_path)
    ours, theirs = read_config(tmp_path), AutoConfig.from_pretrained(tmp_path)
    text = theirs.get_text_config()
    assert ours.text.hidden_size == text.hidden_size
    assert ours.text.full_layers == tuple(kind == "full_attention" for kind in text.layer_types)
    assert ours.text.attention_scale == text.query_pre_attn_scalar**-0.5
    assert ours.text.full_rope.factor == text.rope_parameters["full_attention"].get("factor", 1.0)
    assert ours.text.full_rope.theta == text.rope_parameters["full_attention"]["rope_theta"]
    assert (ours.vision is None) == (theirs.model_type == "gemma3_text")


@pytest.mark.parametrize("name", ["4b", "12b", "27b"])
def test_a_shape_that_sees_takes_pictures_of_its_size(name: ShapeName, tmp_path: Path) -> None:
    """The folder says how pictures are made ready, so that an engine can be built over it."""
    write_shape(name, tmp_path)
    config, spec = read_config(tmp_path), ImageSpec.load(tmp_path)
    assert config.vision is not None
    assert spec is not None
    assert (spec.height, spec.width) == (896, 896) == (config.vision.image_size,) * 2
    assert config.image_tokens == 256


def test_the_scale_of_27b_is_its_own() -> None:
    """Its heads are 128 wide and scaled by 168; the table that it comes from is not touched."""
    assert config_json("27b")["text_config"]["query_pre_attn_scalar"] == 168
    assert "query_pre_attn_scalar" not in PUBLISHED["27b"]["text_config"]


def test_first_layers_of_a_shape(tmp_path: Path) -> None:
    """Cut to seven layers, six of which slide."""
    write_shape("12b", tmp_path, layers=7)
    assert read_config(tmp_path).text.full_layers == (False,) * 5 + (True, False)


def test_first_layers_of_a_checkpoint(tmp_path: Path) -> None:
    """The same files but for the config, which keeps all else that it says."""
    link_first_layers(CHECKPOINT, tmp_path, layers=4)
    assert {path.name for path in tmp_path.iterdir()} == {path.name for path in CHECKPOINT.iterdir()}
    whole, cut = read_config(CHECKPOINT), read_config(tmp_path)
    assert cut.text.full_layers == whole.text.full_layers[:4]
    assert cut.vision == whole.vision
    assert json.loads((CHECKPOINT / "config.json").read_text())["text_config"]["num_hidden_layers"] == 6


def test_a_vocabulary_for_a_network_without_one(empty: Path) -> None:
    """It has as many different tokens as asked for, the bundled ones first, and a tokenizer can be made of it."""
    from tokenizers import Tokenizer

    write_vocabulary(empty, tokens=5000)
    made = Tokenizer.from_file(str(empty / "tokenizer.json"))
    bundled = Tokenizer.from_file(str(CHECKPOINT / "tokenizer.json"))
    assert made.get_vocab_size() == 5000
    assert made.get_vocab().items() >= bundled.get_vocab().items()
    assert sorted(made.get_vocab().values()) == list(range(5000))
