"""Picture files: what is taken, what is refused, and that nothing makes the decoder stumble."""

from __future__ import annotations

import struct
import zlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from gemmad.errors import InvalidRequestError
from gemmad.media.decode import BrokenImageError, decode
from gemmad.media.spec import ImageSpec
from tests.fakes import media_pictures as pictures

SPEC = ImageSpec(height=8, width=12)
PLENTY = 1_000_000
EVERY_KIND = pictures.every_kind()


def _decoded(data: bytes, spec: ImageSpec = SPEC) -> np.ndarray[Any, np.dtype[np.uint8]]:
    raw = decode(data, spec, max_pixels=PLENTY)
    return np.frombuffer(raw, np.uint8).reshape(spec.height, spec.width, 3)


def _refusal(data: bytes, *, max_pixels: int = PLENTY) -> InvalidRequestError:
    with pytest.raises(InvalidRequestError) as caught:
        decode(data, SPEC, max_pixels=max_pixels)
    return caught.value


@pytest.mark.parametrize("name", EVERY_KIND)
def test_every_kind_is_taken(name: str) -> None:
    """Each format in each of its modes becomes pixels of the wanted size."""
    assert len(decode(EVERY_KIND[name], SPEC, max_pixels=PLENTY)) == SPEC.nbytes


def test_a_picture_of_the_right_size_is_left_alone() -> None:
    """Without resizing the very bytes come out."""
    rgb = pictures.noise(12, 8).convert("RGB")
    assert (_decoded(pictures.saved(rgb, "PNG")) == np.asarray(rgb)).all()


def test_one_pixel_is_a_picture() -> None:
    """The smallest picture fills the whole size."""
    dot = Image.new("RGB", (1, 1), (1, 2, 3))
    assert (_decoded(pictures.saved(dot, "PNG")) == (1, 2, 3)).all()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_photographs_are_set_upright(orientation: int) -> None:
    """However the camera was held, the corner that was up and left comes out up and left."""
    upright = np.asarray(pictures.noise(12, 8, seed=orientation).convert("RGB"))
    held = {  # as EXIF defines it: where the stored first row and first column belong
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.swapaxes(0, 1),
        6: np.rot90(upright, 1),
        7: upright[::-1, ::-1].swapaxes(0, 1),
        8: np.rot90(upright, -1),
    }[orientation]
    data = pictures.saved(Image.fromarray(np.ascontiguousarray(held)), "PNG", exif=pictures.exif(orientation))
    assert (_decoded(data) == upright).all()


@pytest.mark.parametrize(
    "exif", [b"Exif\0\0", b"Exif\0\0MM\0*\0\0\0\x08\xff\xff", b"Exif\0\0nonsense", b"MM\0*" + b"\xff" * 40]
)
def test_broken_exif_is_no_exif(exif: bytes) -> None:
    """A good picture with unreadable EXIF is taken as it lies."""
    rgb = pictures.noise(12, 8).convert("RGB")
    plain = pictures.png(12, 8, pictures.chunk(b"IDAT", _rows(rgb)))
    spoilt = pictures.png(12, 8, pictures.chunk(b"IDAT", _rows(rgb)), pictures.chunk(b"eXIf", exif))
    assert (_decoded(spoilt) == _decoded(plain)).all()


def test_a_transparent_colour_turns_white() -> None:
    """A single transparent colour is laid on white; an alpha channel is dropped and its colours show."""
    keyed = Image.new("P", (4, 4), 1)
    keyed.putpalette([0, 0, 0, 200, 0, 0])
    assert (_decoded(pictures.saved(keyed, "PNG", transparency=1)) == 255).all()
    assert (_decoded(pictures.saved(Image.new("RGBA", (4, 4), (200, 0, 0, 0)), "PNG")) == (200, 0, 0)).all()


def test_only_the_first_frame_counts() -> None:
    """An animation is its first picture."""
    first, second = (Image.new("P", (4, 4), 0) for _ in range(2))
    first.putpalette([10, 20, 30])
    second.putpalette([90, 90, 90])
    data = pictures.saved(first, "GIF", save_all=True, append_images=[second] * 50)
    assert (_decoded(data) == (10, 20, 30)).all()


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (pictures.saved(pictures.noise().convert("RGB"), "TIFF"), "but TIFF."),
        (b"\0\0\0\x20ftypavif" + bytes(40), "but AVIF."),
        (b"\0\0\0\x20ftypheic" + bytes(40), "but HEIC."),
        (b"%PDF-1.7\n", "but PDF."),
        (b"\n<!DOCTYPE html><title>Log in</title>", "but an HTML page."),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "but SVG or XML."),
        (b"P6 1 1 255 abc", "file."),
        (b"hello", "file."),
    ],
)
def test_other_formats_are_refused(data: bytes, words: str) -> None:
    """What is none of the five formats is told so, and what it is where that is plain."""
    error = _refusal(data)
    assert error.message.startswith("The image is not a PNG, JPEG, WebP, GIF or BMP file")
    assert error.message.endswith(words)
    assert error.code == "unsupported_image_media_type"


def test_nothing_is_no_picture() -> None:
    """An empty file is refused as such."""
    assert _refusal(b"").code == "empty_image_file"


@pytest.mark.parametrize(("width", "height"), [(0, 5), (5, 0), (0, 0)])
def test_a_picture_without_pixels_is_refused(width: int, height: int) -> None:
    """Neither side may be nothing."""
    assert _refusal(pictures.png(width, height)).code in {"image_too_small", "image_parse_error"}


def test_pixels_are_counted_before_they_are_decoded() -> None:
    """One pixel over the limit is refused with both numbers; at the limit it is taken."""
    data = pictures.saved(pictures.noise(37, 23), "PNG")
    decode(data, SPEC, max_pixels=37 * 23)
    error = _refusal(data, max_pixels=37 * 23 - 1)
    assert error.message == "The image has 37×23 = 851 pixels; the limit is 850."
    assert error.code == "image_too_large"


@pytest.mark.parametrize("name", ["png rgb", "jpeg rgb", "webp", "webp with alpha", "webp lossless", "gif", "bmp"])
def test_every_format_is_counted(name: str) -> None:
    """The limit holds in each format."""
    assert _refusal(EVERY_KIND[name], max_pixels=850).code == "image_too_large"


@pytest.mark.parametrize(
    "data",
    [
        pictures.bomb(20_000, 20_000),
        pictures.png(1 << 30, 1 << 30),
        b"BM" + struct.pack("<IHHIIiiHHIIIIII", 54, 0, 0, 54, 40, 1 << 20, 1 << 20, 1, 24, 0, 0, 0, 0, 0, 0),
        EVERY_KIND["gif"][:6] + b"\xff\xff\xff\xff" + EVERY_KIND["gif"][10:],
        pictures.webp_header(1 << 24, 1 << 24),
        pictures.webp_header(16384, 16384) + bytes(64),
    ],
    ids=["png", "png claim", "bmp claim", "gif claim", "webp claim", "large webp claim"],
)
def test_a_bomb_does_not_go_off(data: bytes) -> None:
    """A file that claims an enormous picture is refused by its header."""
    assert len(data) < 1 << 20
    assert _refusal(data).code == "image_too_large"


def test_a_comment_that_unpacks_without_end_is_refused() -> None:
    """Pillow's bound on text chunks holds."""
    assert _refusal(pictures.text_bomb(64)).code == "image_parse_error"


def test_a_wrong_checksum_is_refused() -> None:
    """A PNG whose pixels were altered on the way is broken, though it would decode."""
    rows = _rows(pictures.noise(12, 8).convert("RGB"))
    good = pictures.png(12, 8, pictures.chunk(b"IDAT", rows))
    bad = good.replace(pictures.chunk(b"IDAT", rows)[-4:], b"\0\0\0\0")
    decode(good, SPEC, max_pixels=PLENTY)
    error = _refusal(bad)
    assert error.message == "The image is a broken or truncated PNG file."
    assert isinstance(error, BrokenImageError)
    assert error.__cause__ is not None


@pytest.mark.parametrize("name", ["png rgb", "png interlaced", "jpeg rgb", "jpeg progressive", "gif", "webp", "bmp"])
@pytest.mark.parametrize("twentieth", range(19))
def test_a_truncated_file_is_refused(name: str, twentieth: int) -> None:
    """Wherever in its first nineteen twentieths a file ends, it is broken, not a picture with a grey rest."""
    data = EVERY_KIND[name]
    error = _refusal(data[: len(data) * twentieth // 20])
    assert error.code in {"image_parse_error", "empty_image_file", "unsupported_image_media_type"}


@given(st.binary(max_size=400), st.sampled_from([b"", *(data[:40] for data in EVERY_KIND.values())]))
def test_no_bytes_make_it_stumble(tail: bytes, head: bytes) -> None:
    """Random bytes, bare or behind a real file's beginning, are pixels or an InvalidRequestError."""
    _survive(head + tail)


@settings(max_examples=300)
@given(st.data())
def test_no_damage_makes_it_stumble(draw: st.DataObject) -> None:
    """A real file with some bytes altered is pixels or an InvalidRequestError."""
    data = bytearray(EVERY_KIND[draw.draw(st.sampled_from(sorted(EVERY_KIND)))])
    for _ in range(draw.draw(st.integers(1, 8))):
        data[draw.draw(st.integers(0, min(len(data) - 1, 200)))] = draw.draw(st.integers(0, 255))
    _survive(bytes(data))


def _survive(data: bytes) -> None:
    try:
        outcome: bytes | InvalidRequestError = decode(data, SPEC, max_pixels=PLENTY)
    except InvalidRequestError as error:
        outcome = error
    if isinstance(outcome, bytes):
        assert len(outcome) == SPEC.nbytes
    else:
        assert outcome.code
        assert "0x" not in outcome.message


def _rows(image: Image.Image) -> bytes:
    return zlib.compress(b"".join(b"\0" + row.tobytes() for row in np.asarray(image)))
