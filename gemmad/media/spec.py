"""What a checkpoint's image processor does to a picture: which size, which filter, and which number each byte becomes.

Two files may say so: `processor_config.json` under `image_processor` (newer), or `preprocessor_config.json` (older).
As in transformers the former wins, and a key that neither sets has Gemma 3's own default. Neither Pillow nor httpx is
imported here: the engine reads this module too.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import msgspec
from msgspec import Struct

from gemmad.errors import CheckpointError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

_Kind = TypeVar("_Kind")

LARGEST_SIDE = 4096
"""A larger picture than this is no SigLIP's input but a slip in the file."""

BILINEAR = 2
FILTERS = range(6)
"""Pillow's resampling filters: nearest, Lanczos, bilinear, bicubic, box, Hamming."""


class ImageSpec(Struct, frozen=True, kw_only=True):
    """How a picture becomes numbers: resized to `height` × `width`, then `(byte · rescale_factor − mean) / std`."""

    height: int
    width: int
    resample: int = BILINEAR
    """Pillow's number of the filter."""
    rescale_factor: float = 1 / 255
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    std: tuple[float, float, float] = (0.5, 0.5, 0.5)

    @property
    def nbytes(self) -> int:
        """Bytes of one resized picture, three for each pixel."""
        return self.height * self.width * 3

    @classmethod
    def load(cls, folder: Path) -> ImageSpec | None:
        """The spec of a checkpoint, None for one that takes no images. Raises CheckpointError, which names the file."""
        newer, older = folder / "processor_config.json", folder / "preprocessor_config.json"
        if newer.is_file():
            nested = _decode(newer, _ProcessorFile).image_processor
            if nested is not None:
                return _checked(nested, newer)
        if older.is_file():
            return _checked(_decode(older, _ImageProcessor), older)
        return None


def normalise_table(spec: ImageSpec) -> npt.NDArray[np.float32]:
    """`[256, 3]` float32: the number that each byte becomes in each channel.

    The arithmetic is that of transformers' `rescale` (float64, then rounded to float32) and `normalize` (float32), so
    that looking a byte up gives the very number it computes.
    """
    import numpy as np

    rescaled = (np.arange(256).astype(np.float64) * spec.rescale_factor).astype(np.float32)
    mean, std = np.array(spec.mean, dtype=np.float32), np.array(spec.std, dtype=np.float32)
    table: npt.NDArray[np.float32] = (rescaled[:, None] - mean) / std
    return table


class _Size(Struct, frozen=True):
    height: int
    width: int


class _ImageProcessor(Struct, frozen=True):
    """The keys that matter, with `Gemma3ImageProcessor`'s defaults; null means the default, as it does there."""

    image_processor_type: str | None = None
    do_resize: bool | None = None
    size: _Size | int | None = None
    resample: int | None = None
    do_rescale: bool | None = None
    rescale_factor: float | None = None
    do_normalize: bool | None = None
    image_mean: tuple[float, float, float] | float | None = None
    image_std: tuple[float, float, float] | float | None = None
    do_pan_and_scan: bool | None = None


class _ProcessorFile(Struct, frozen=True):
    image_processor: _ImageProcessor | None = None


def _decode(path: Path, kind: type[_Kind]) -> _Kind:
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror}") from error
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{path}: not an image processor's settings: {error}") from error


def _checked(file: _ImageProcessor, path: Path) -> ImageSpec:
    if file.image_processor_type is not None and not file.image_processor_type.startswith("Gemma3ImageProcessor"):
        raise CheckpointError(f"{path}: image_processor_type is {file.image_processor_type!r}, not Gemma 3's")
    if file.do_resize is False:
        raise CheckpointError(f"{path}: do_resize is off, but the vision tower takes one size only; set it to true")
    if file.do_pan_and_scan:
        raise CheckpointError(f"{path}: do_pan_and_scan is on, which is not supported; set it to false")
    size = _square(224 if file.size is None else file.size)
    spec = ImageSpec(
        height=size.height,
        width=size.width,
        resample=BILINEAR if file.resample is None else file.resample,
        rescale_factor=_rescale_factor(file),
        mean=(0.0, 0.0, 0.0) if file.do_normalize is False else _channels(file.image_mean),
        std=(1.0, 1.0, 1.0) if file.do_normalize is False else _channels(file.image_std),
    )
    _require_sense(spec, path)
    return spec


def _require_sense(spec: ImageSpec, path: Path) -> None:
    if not (1 <= spec.height <= LARGEST_SIDE and 1 <= spec.width <= LARGEST_SIDE):
        raise CheckpointError(f"{path}: size is {spec.height}×{spec.width}; each side is 1 to {LARGEST_SIDE}")
    if spec.resample not in FILTERS:
        raise CheckpointError(f"{path}: resample is {spec.resample}; Pillow's filters are 0 to {FILTERS.stop - 1}")
    if not math.isfinite(spec.rescale_factor) or spec.rescale_factor <= 0:
        raise CheckpointError(f"{path}: rescale_factor is {spec.rescale_factor}; it must be above 0")
    if not all(map(math.isfinite, (*spec.mean, *spec.std))) or min(map(abs, spec.std)) == 0:
        raise CheckpointError(f"{path}: image_mean {spec.mean} and image_std {spec.std} must be finite, std not 0")


def _square(size: _Size | int) -> _Size:
    return _Size(size, size) if isinstance(size, int) else size


def _rescale_factor(file: _ImageProcessor) -> float:
    if file.do_rescale is False:
        return 1.0
    return 1 / 255 if file.rescale_factor is None else file.rescale_factor


def _channels(value: tuple[float, float, float] | float | None) -> tuple[float, float, float]:
    if value is None:
        return (0.5, 0.5, 0.5)
    return value if isinstance(value, tuple) else (value, value, value)
