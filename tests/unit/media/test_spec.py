"""How a checkpoint says what its pictures become."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gemmad.errors import CheckpointError
from gemmad.media.spec import ImageSpec, normalise_table

GEMMA = {
    "do_convert_rgb": None,
    "do_normalize": True,
    "do_pan_and_scan": None,
    "do_rescale": True,
    "do_resize": True,
    "image_mean": [0.5, 0.5, 0.5],
    "image_processor_type": "Gemma3ImageProcessor",
    "image_seq_length": 256,
    "image_std": [0.5, 0.5, 0.5],
    "processor_class": "Gemma3Processor",
    "resample": 2,
    "rescale_factor": 0.00392156862745098,
    "size": {"height": 896, "width": 896},
}


def _older(folder: Path, **changes: Any) -> Path:
    (folder / "preprocessor_config.json").write_text(json.dumps(GEMMA | changes))
    return folder


def test_the_hub_layout_is_read(tmp_path: Path) -> None:
    """preprocessor_config.json as Gemma 3's checkpoints have it gives their spec."""
    assert ImageSpec.load(_older(tmp_path)) == ImageSpec(height=896, width=896, rescale_factor=1 / 255)


def test_the_newer_layout_is_read(tmp_path: Path) -> None:
    """The same settings nested in processor_config.json give the same spec."""
    (tmp_path / "processor_config.json").write_text(json.dumps({"image_processor": GEMMA, "image_seq_length": 256}))
    assert ImageSpec.load(tmp_path) == ImageSpec(height=896, width=896)


def test_the_newer_layout_wins(tmp_path: Path) -> None:
    """With both files the nested settings count, as in transformers."""
    _older(tmp_path)
    nested = GEMMA | {"size": {"height": 64, "width": 32}}
    (tmp_path / "processor_config.json").write_text(json.dumps({"image_processor": nested}))
    spec = ImageSpec.load(tmp_path)
    assert spec is not None
    assert (spec.height, spec.width, spec.nbytes) == (64, 32, 64 * 32 * 3)


def test_a_processor_file_without_images_leaves_it_to_the_older(tmp_path: Path) -> None:
    """A processor_config.json that holds no image processor hides nothing."""
    (tmp_path / "processor_config.json").write_text(json.dumps({"processor_class": "Gemma3Processor"}))
    assert ImageSpec.load(tmp_path) is None
    assert ImageSpec.load(_older(tmp_path)) == ImageSpec(height=896, width=896)


def test_a_text_only_checkpoint_has_no_spec(tmp_path: Path) -> None:
    """Without either file there are no images."""
    assert ImageSpec.load(tmp_path) is None


def test_silent_keys_have_the_processors_defaults(tmp_path: Path) -> None:
    """A key that is missing or null means Gemma3ImageProcessor's own default."""
    (tmp_path / "preprocessor_config.json").write_text('{"size": 48, "resample": null}')
    assert ImageSpec.load(tmp_path) == ImageSpec(height=48, width=48, resample=2)


def test_steps_that_are_off_change_nothing(tmp_path: Path) -> None:
    """Without rescaling and normalising a byte stands for itself."""
    spec = ImageSpec.load(_older(tmp_path, do_rescale=False, do_normalize=False))
    assert spec is not None
    assert (normalise_table(spec) == np.arange(256, dtype=np.float32)[:, None]).all()


def test_one_number_serves_all_channels(tmp_path: Path) -> None:
    """A mean or standard deviation that is one number is that of every channel."""
    spec = ImageSpec.load(_older(tmp_path, image_mean=0.25, image_std=2))
    assert spec is not None
    assert (spec.mean, spec.std) == ((0.25, 0.25, 0.25), (2.0, 2.0, 2.0))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"size": {"height": 0, "width": 896}}, "size is 0×896"),
        ({"size": {"height": 896, "width": 1 << 20}}, "each side is 1 to 4096"),
        ({"size": {"shortest_edge": 896}}, "size"),
        ({"size": "large"}, "size"),
        ({"resample": 6}, "resample is 6"),
        ({"resample": -1}, "resample is -1"),
        ({"rescale_factor": 0}, "rescale_factor is 0"),
        ({"rescale_factor": "1/255"}, "rescale_factor"),
        ({"image_std": [0.5, 0.0, 0.5]}, "std not 0"),
        ({"image_mean": [0.5, 0.5]}, "image_mean"),
        ({"do_resize": False}, "do_resize is off"),
        ({"do_pan_and_scan": True}, "do_pan_and_scan is on"),
        ({"image_processor_type": "SiglipImageProcessor"}, "SiglipImageProcessor"),
    ],
)
def test_nonsense_is_refused_by_file_and_key(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    """What no picture could go through is a CheckpointError that names the file and the key."""
    with pytest.raises(CheckpointError) as caught:
        ImageSpec.load(_older(tmp_path, **changes))
    assert words in str(caught.value)
    assert str(tmp_path / "preprocessor_config.json") in str(caught.value)


@pytest.mark.parametrize("text", ["", "{", "[]", "\xff\xfe", '{"size": {"height": 1e400, "width": 1}}'])
def test_a_file_that_is_no_json_is_refused(tmp_path: Path, text: str) -> None:
    """A broken file is a CheckpointError, not a decoder's exception."""
    (tmp_path / "preprocessor_config.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(CheckpointError, match=r"preprocessor_config\.json"):
        ImageSpec.load(tmp_path)


def test_a_folder_in_the_files_place_is_passed_over(tmp_path: Path) -> None:
    """Only a file can hold settings."""
    (tmp_path / "preprocessor_config.json").mkdir()
    assert ImageSpec.load(tmp_path) is None


def test_the_table_spans_minus_one_to_one() -> None:
    """With Gemma 3's numbers black becomes -1 and white 1, in float32."""
    table = normalise_table(ImageSpec(height=1, width=1))
    assert table.shape == (256, 3)
    assert table.dtype == np.float32
    assert table[0].tolist() == [-1.0, -1.0, -1.0]
    assert table[255].tolist() == [1.0, 1.0, 1.0]
    assert (np.diff(table, axis=0) > 0).all()
