from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from gemmad.errors import CheckpointError
from gemmad.planning.shape import PUBLISHED, published_shape, read_shape

FLOAT32 = 4


def write(folder: Path, config: Any) -> Path:
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("270m", 268_098_176),
        ("1b", 999_885_952),
        ("4b", 4_300_079_472),
        ("12b", 12_187_325_040),
        ("27b", 27_432_406_640),
    ],
)
def test_published_sizes_have_the_published_numbers(name: str, parameters: int) -> None:
    """Each size has just as many parameters as its checkpoint on the hub, vision included."""
    assert published_shape(name).weight_bytes(FLOAT32) == parameters * FLOAT32


def test_norms_stay_wide() -> None:
    """In bfloat16 matrices halve and norms, which are kept in float32, do not."""
    shape = published_shape("1b")
    norms = 26 * (4 * 1152 + 2 * 256) + 1152
    assert shape.weight_bytes(2) == (999_885_952 - norms) * 2 + norms * 4


def test_matrices_are_what_is_allocated_in_one_piece() -> None:
    """The embedding and four matrices a layer are all of a text-only network but its norms."""
    shape = published_shape("1b")
    matrices = shape.matrices()
    assert len(matrices) == 1 + 4 * 26
    assert sum(matrices) == 999_885_952 - 26 * (4 * 1152 + 2 * 256) - 1152


def test_a_file_of_few_words(tmp_path: Path) -> None:
    """What a file leaves out is as in transformers' config classes: the 4B's says little."""
    assert read_shape(write(tmp_path, PUBLISHED["4b"])) == published_shape("4b")
    shape = published_shape("4b")
    assert (shape.heads, shape.kv_heads, shape.head_dim, shape.vocab_size) == (8, 4, 256, 262_208)
    assert (shape.max_context, shape.image_tokens) == (131_072, 256)
    assert [index for index, full in enumerate(shape.full_layers) if full] == [5, 11, 17, 23, 29]
    assert shape.qkv_size == (8 + 2 * 4) * 256
    assert shape.vision is not None
    assert shape.vision.patches == 4096


def test_layers_by_name(tmp_path: Path) -> None:
    """Layer types that are spelled out win over the pattern."""
    kinds = ["full_attention", "sliding_attention"]
    folder = write(tmp_path, {"model_type": "gemma3_text", "num_hidden_layers": 2, "layer_types": kinds})
    shape = read_shape(folder)
    assert shape.full_layers == (True, False)
    assert (shape.vision, shape.image_tokens) == (None, 0)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"model_type": "llama"}, "model_type is 'llama'"),
        ({}, "model_type is None"),
        ({"model_type": "gemma3_text", "hidden_size": 0}, "cannot be read"),
        ([], "cannot be read"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, config: Any, words: str) -> None:
    """A file of another network, or with numbers that are none, is refused by name."""
    with pytest.raises(CheckpointError, match=words) as caught:
        read_shape(write(tmp_path, config))
    assert str(tmp_path / "config.json") in str(caught.value)


def test_a_folder_without_a_file(tmp_path: Path) -> None:
    """A missing file is said to be missing, a broken one to be broken."""
    with pytest.raises(CheckpointError, match=r"config\.json is missing"):
        read_shape(tmp_path)
    (tmp_path / "config.json").write_bytes(b"{\xff")
    with pytest.raises(CheckpointError, match="cannot be read"):
        read_shape(tmp_path)
