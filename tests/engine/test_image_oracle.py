"""The pixels that media processes make, held against transformers' own image processor."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
from transformers.image_utils import load_image
from transformers.models.gemma3.image_processing_pil_gemma3 import Gemma3ImageProcessorPil

from gemmad.media.decode import decode
from gemmad.media.spec import ImageSpec, normalise_table
from tests.fakes import media_pictures as pictures

SMALL = ImageSpec(height=64, width=64)
GEMMA = ImageSpec(height=896, width=896)
ODD = ImageSpec(
    height=48, width=31, resample=3, rescale_factor=1 / 127.5, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)
)
FILES = {
    f"{name}, {width}×{height}": data
    for width, height in ((37, 23), (200, 311))
    for name, data in pictures.every_kind(width, height, seed=width).items()
}


def _theirs(data: bytes, spec: ImageSpec) -> np.ndarray[Any, np.dtype[np.float32]]:
    processor = Gemma3ImageProcessorPil(
        size={"height": spec.height, "width": spec.width},
        resample=spec.resample,
        rescale_factor=spec.rescale_factor,
        image_mean=list(spec.mean),
        image_std=list(spec.std),
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's, about odd files
        picture = load_image(pictures.data_url(data))
    values: np.ndarray[Any, np.dtype[np.float32]] = processor(picture, return_tensors="np")["pixel_values"][0]
    return values


def _ours(data: bytes, spec: ImageSpec) -> np.ndarray[Any, np.dtype[np.float32]]:
    raw = decode(data, spec, max_pixels=1 << 30)
    rows = np.frombuffer(raw, np.uint8).reshape(spec.height, spec.width, 3)
    table = normalise_table(spec)
    return np.stack([table[rows[..., channel], channel] for channel in range(3)])


def _assert_equal(data: bytes, spec: ImageSpec) -> None:
    theirs, ours = _theirs(data, spec), _ours(data, spec)
    assert theirs.dtype == ours.dtype == np.float32
    assert theirs.tobytes() == ours.tobytes()


@pytest.mark.parametrize("name", FILES)
def test_every_kind_is_equal_to_the_bit(name: str) -> None:
    """Each format in each mode, larger and smaller than the input, gives transformers' pixel_values exactly."""
    _assert_equal(FILES[name], SMALL)


@pytest.mark.parametrize("spec", [GEMMA, ODD], ids=["gemma", "odd"])
@pytest.mark.parametrize("name", ["png rgb", "png palette, one colour transparent", "jpeg, orientation 6", "webp"])
def test_every_spec_is_equal_to_the_bit(name: str, spec: ImageSpec) -> None:
    """So it is at Gemma 3's own size, and with another size, filter, factor, mean and deviation."""
    _assert_equal(FILES[f"{name}, 200×311"], spec)


@pytest.mark.parametrize("resample", range(6))
def test_every_filter_is_equal_to_the_bit(resample: int) -> None:
    """Pillow's six filters are the processor's."""
    _assert_equal(FILES["png rgb, 200×311"], ImageSpec(height=64, width=64, resample=resample))


@pytest.mark.parametrize("seed", range(20))
def test_random_sizes_are_equal_to_the_bit(seed: int) -> None:
    """Random pictures of random sizes, extreme shapes among them."""
    generator = np.random.default_rng(seed)
    width, height = (int(side) for side in generator.integers(1, 400, 2) // generator.integers(1, 40, 2) + 1)
    _assert_equal(pictures.saved(pictures.noise(width, height, seed=seed), "PNG"), SMALL)
