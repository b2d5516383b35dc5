"""Picture files of every kind that clients send, and of some that they should not."""

from __future__ import annotations

import base64
import io
import struct
import zlib
from typing import Any

import numpy as np
from PIL import Image

ORIENTATION_TAG = 0x0112


def noise(width: int = 37, height: int = 23, *, seed: int = 0) -> Image.Image:
    """A picture in RGBA of which no two pixels are likely alike."""
    generator = np.random.default_rng(seed)
    return Image.fromarray(generator.integers(0, 256, (height, width, 4), dtype=np.uint8), "RGBA")


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    """The file that Pillow makes of it."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def data_url(data: bytes, media_type: str = "image/png") -> str:
    """The file in a data: URL."""
    return f"data:{media_type};base64,{base64.b64encode(data).decode()}"


def exif(orientation: int) -> bytes:
    """EXIF data that says nothing but how the camera was held."""
    tags = Image.Exif()
    tags[ORIENTATION_TAG] = orientation
    return tags.tobytes()


def every_kind(width: int = 37, height: int = 23, *, seed: int = 0) -> dict[str, bytes]:
    """Files by name: each format that is taken, in each mode that it has."""
    rgba = noise(width, height, seed=seed)
    rgb, grey = rgba.convert("RGB"), rgba.convert("L")
    palette = rgb.quantize(16)
    deep = np.random.default_rng(seed).integers(0, 65536, (height, width), dtype=np.uint16)
    other = noise(width, height, seed=seed + 1).convert("RGB")
    return {
        "png rgb": saved(rgb, "PNG"),
        "png rgb, one colour transparent": saved(rgb, "PNG", transparency=rgb.getpixel((0, 0))),
        "png rgba": saved(rgba, "PNG"),
        "png grey": saved(grey, "PNG"),
        "png grey, one shade transparent": saved(grey, "PNG", transparency=grey.getpixel((0, 0))),
        "png grey with alpha": saved(rgba.convert("LA"), "PNG"),
        "png palette": saved(palette, "PNG"),
        "png palette, one colour transparent": saved(palette, "PNG", transparency=3),
        "png palette with alpha": saved(palette, "PNG", transparency=bytes(range(0, 160, 10))),
        "png bits": saved(rgba.convert("1"), "PNG"),
        "png 16 bit": saved(Image.fromarray(deep), "PNG"),
        "png interlaced": interlaced_png(rgb),
        "png turned by exif": saved(rgb, "PNG", exif=exif(6)),
        "jpeg rgb": saved(rgb, "JPEG", quality=80),
        "jpeg progressive": saved(rgb, "JPEG", progressive=True),
        "jpeg grey": saved(grey, "JPEG"),
        "jpeg cmyk": saved(rgba.convert("CMYK"), "JPEG"),
        **{f"jpeg, orientation {value}": saved(rgb, "JPEG", exif=exif(value)) for value in range(10)},
        "gif": saved(palette, "GIF"),
        "gif, transparent": saved(palette, "GIF", transparency=2),
        "gif, animated": saved(palette, "GIF", save_all=True, append_images=[other.quantize(16)], transparency=2),
        "webp": saved(rgb, "WEBP"),
        "webp with alpha": saved(rgba, "WEBP"),
        "webp lossless": saved(rgba, "WEBP", lossless=True),
        "webp animated": saved(rgb, "WEBP", save_all=True, append_images=[other]),
        "webp turned by exif": saved(rgb, "WEBP", exif=exif(8)),
        "bmp": saved(rgb, "BMP"),
        "bmp palette": saved(palette, "BMP"),
        "bmp bits": saved(rgba.convert("1"), "BMP"),
    }


def chunk(name: bytes, body: bytes) -> bytes:
    """One chunk of a PNG file."""
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def png(width: int, height: int, *chunks: bytes, interlaced: bool = False, colour: int = 2) -> bytes:
    """A PNG file of 8 bits a channel with this header and these chunks, whether or not they make sense together."""
    header = struct.pack(">IIBBBBB", width, height, 8, colour, 0, 0, int(interlaced))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + b"".join(chunks) + chunk(b"IEND", b"")


def interlaced_png(image: Image.Image) -> bytes:
    """Adam7, which Pillow reads and does not write."""
    pixels = np.asarray(image.convert("RGB"))
    passes = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))
    rows = b"".join(
        b"\0" + row.tobytes() for top, left, down, right in passes for row in pixels[top::down, left::right] if row.size
    )
    return png(image.width, image.height, chunk(b"IDAT", zlib.compress(rows)), interlaced=True)


def bomb(width: int, height: int) -> bytes:
    """A valid grey PNG of this many pixels, in a thousandth of the bytes."""
    packer = zlib.compressobj(9)
    row = bytes(width + 1)
    rows = b"".join(packer.compress(row) for _ in range(height)) + packer.flush()
    return png(width, height, chunk(b"IDAT", rows), colour=0)


def text_bomb(mebibytes: int) -> bytes:
    """A PNG whose comment unpacks to this much."""
    text = chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(mebibytes << 20), 9))
    return png(1, 1, text, chunk(b"IDAT", zlib.compress(bytes(4))))


def webp_header(width: int, height: int) -> bytes:
    """The start of an extended WebP file that claims this canvas."""
    body = bytes(4) + (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    chunks = b"WEBP" + b"VP8X" + struct.pack("<I", len(body)) + body
    return b"RIFF" + struct.pack("<I", len(chunks)) + chunks
