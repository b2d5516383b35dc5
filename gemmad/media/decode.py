"""An image file's bytes → the pixels that the vision tower is fed. Runs in a media process only.

Equal to the bit to transformers' `load_image` followed by its `Gemma3ImageProcessorPil`, up to the resized picture:
upright by its EXIF orientation, RGB, a transparent colour laid on white, resized by Pillow. It goes further in two
places: orientation is applied without writing EXIF back (which fails on odd files), and broken EXIF counts as none.
"""

from __future__ import annotations

import io
import warnings

from PIL import BmpImagePlugin, GifImagePlugin, Image, JpegImagePlugin, PngImagePlugin, WebPImagePlugin

from gemmad.errors import InvalidRequestError
from gemmad.media.spec import ImageSpec

PLUGINS = (PngImagePlugin, JpegImagePlugin, WebPImagePlugin, GifImagePlugin, BmpImagePlugin)
"""Imported by name, so that Pillow never goes looking for its forty others."""

Image.MAX_IMAGE_PIXELS = None
"""Pillow's own bound is one for all; here every picture brings its limit."""

MAGIC = {
    b"\x89PNG\r\n\x1a\n": "PNG",
    b"\xff\xd8\xff": "JPEG",
    b"GIF87a": "GIF",
    b"GIF89a": "GIF",
    b"BM": "BMP",
}
REFUSED_MAGIC = {
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
    b"%PDF": "PDF",
    b"\0\0\1\0": "ICO",
    b"\0\0\0\x0cjP  ": "JPEG 2000",
    b"\xff\x0a": "JPEG XL",
}
REFUSED_BRANDS = {b"avif": "AVIF", b"avis": "AVIF", b"heic": "HEIC", b"heix": "HEIC", b"mif1": "HEIF"}

ORIENTATION_TAG = 0x0112
ORIENTATIONS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What sets a picture upright, for each EXIF orientation but 1 (upright already)."""


class BrokenImageError(InvalidRequestError):
    """A file that its decoder gave up on; `__cause__` is what the decoder said, which is for the log only."""


def decode(data: bytes, spec: ImageSpec, *, max_pixels: int) -> bytes:
    """Raw RGB bytes, `[spec.height, spec.width, 3]`. Raises InvalidRequestError, and MemoryError as it comes."""
    kind = _kind(data)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return _resized(data, spec, kind, max_pixels)
    except (InvalidRequestError, MemoryError):
        raise
    except Exception as error:  # hostile bytes make Pillow raise anything at all
        message = f"The image is a broken or truncated {kind} file."
        raise BrokenImageError(message, code="image_parse_error") from error


def _resized(data: bytes, spec: ImageSpec, kind: str, max_pixels: int) -> bytes:
    if kind == "WEBP":  # its decoder takes memory for the whole canvas before it tells the size
        _require_size(_webp_canvas(data), max_pixels)
    if kind == "PNG":  # decoding alone passes over wrong checksums
        with _open(data, kind) as image:
            _require_size(image.size, max_pixels)
            image.verify()
    with _open(data, kind) as image:
        _require_size(image.size, max_pixels)
        image.load()
        return _on_white(_upright(image)).resize((spec.width, spec.height), resample=spec.resample).tobytes()


def _kind(data: bytes) -> str:
    """What the first bytes say the file is; no one's word for it is taken."""
    if not data:
        raise InvalidRequestError("The image is empty.", code="empty_image_file")
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WEBP"
    for magic, kind in MAGIC.items():
        if data.startswith(magic):
            return kind
    raise InvalidRequestError(
        f"The image is not a PNG, JPEG, WebP, GIF or BMP file{_guess(data)}.", code="unsupported_image_media_type"
    )


def _guess(data: bytes) -> str:
    """What it is instead, if that is easily told."""
    if data[4:8] == b"ftyp" and data[8:12] in REFUSED_BRANDS:
        return f" but {REFUSED_BRANDS[data[8:12]]}"
    for magic, kind in REFUSED_MAGIC.items():
        if data.startswith(magic):
            return f" but {kind}"
    start = data[:256].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if start.startswith((b"<!doctype html", b"<html")):
        return " but an HTML page"
    return " but SVG or XML" if start.startswith((b"<svg", b"<?xml")) else ""


def _open(data: bytes, kind: str) -> Image.Image:
    return Image.open(io.BytesIO(data), formats=(kind,))


def _webp_canvas(data: bytes) -> tuple[int, int]:
    """Width and height out of a WebP file's first chunk. IndexError or ValueError when it has none.

    https://developers.google.com/speed/webp/docs/riff_container
    """
    chunk = data[12:16]
    if chunk == b"VP8X":
        return 1 + int.from_bytes(data[24:27], "little"), 1 + int.from_bytes(data[27:30], "little")
    if chunk == b"VP8L":
        bits = int.from_bytes(data[21:25], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    if chunk == b"VP8 ":
        return int.from_bytes(data[26:28], "little") & 0x3FFF, int.from_bytes(data[28:30], "little") & 0x3FFF
    raise ValueError(f"no WebP chunk is called {chunk!r}")


def _require_size(size: tuple[int, int], max_pixels: int) -> None:
    width, height = size
    if width < 1 or height < 1:
        raise InvalidRequestError("The image has no pixels.", code="image_too_small")
    if width * height > max_pixels:
        raise InvalidRequestError(
            f"The image has {width}×{height} = {width * height} pixels; the limit is {max_pixels}.",
            code="image_too_large",
        )


def _upright(image: Image.Image) -> Image.Image:
    """`ImageOps.exif_transpose` without its copies."""
    try:
        method = ORIENTATIONS.get(image.getexif().get(ORIENTATION_TAG, 1))
    except Exception:  # broken EXIF makes Pillow raise anything; the picture itself may be well
        return image
    return image if method is None else image.transpose(method)


def _on_white(image: Image.Image) -> Image.Image:
    """RGB as `load_image` makes it, then on white as the image processor's `convert_to_rgb` does.

    The first step drops an alpha channel, so what shows there are the colours below it; only a single transparent
    colour (GIF, palette and true-colour PNG) survives as `info["transparency"]` and turns white in the second.
    """
    if image.mode != "RGB":
        image = image.convert("RGB")
    if image.info.get("transparency") is not None:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, (255, 255, 255, 255)), image)
        image = image.convert("RGB")
    return image
