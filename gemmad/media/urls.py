"""What a URL must look like before anything is done about it, and the bytes inside a data: URL."""

from __future__ import annotations

import binascii
import re
from typing import Literal
from urllib.parse import unquote_to_bytes

from gemmad.errors import InvalidRequestError
from gemmad.protocol.framing import MAX_FRAME_BYTES

MAX_URL_LENGTH = 8192
"""Of an http or https URL; what servers take at most."""
MAX_DATA_URL_LENGTH = MAX_FRAME_BYTES - 1024
"""What one frame to a media process holds."""
SHOWN_LENGTH = 100

_SCHEME = re.compile(r"\s*([A-Za-z][A-Za-z0-9+.-]*):")
_WHITESPACE = b" \t\r\n\f"


def scheme_of(url: str) -> Literal["data", "http", "https"]:
    """How an image is to be had. Raises InvalidRequestError for every way but these three."""
    match = _SCHEME.match(url)
    scheme = match[1].lower() if match else ""
    match scheme:
        case "data" | "http" | "https":
            return scheme
    if not scheme:
        raise _bad_url(f"The image's URL {shown(url)} must begin with data:, http: or https:.")
    raise _bad_url(f"The image's URL begins with {scheme[:SHOWN_LENGTH]}:; only data:, http: and https: are taken.")


def require_sane(url: str) -> None:
    """Raise InvalidRequestError for a URL that is too long, or has characters that its kind cannot have."""
    is_data = scheme_of(url) == "data"
    limit = MAX_DATA_URL_LENGTH if is_data else MAX_URL_LENGTH
    if len(url) > limit:
        raise _bad_url(f"The image's URL has {len(url)} characters; the limit is {limit}.")
    if is_data and not url.isascii():
        raise _bad_base64("The image's data: URL has characters that are not ASCII.")
    if not is_data and any("\ud800" <= character <= "\udfff" for character in url):
        raise _bad_url("The image's URL has half a character in it.")


def shown(url: str) -> str:
    """A URL as an error may name it: cut short and quoted; a data: URL's contents are not shown at all."""
    if url.lstrip()[:5].lower() == "data:":
        return "'data:…'"
    return repr(url if len(url) <= SHOWN_LENGTH else url[:SHOWN_LENGTH] + "…")


def decode_data_url(url: str, *, max_bytes: int) -> bytes:
    """The bytes inside; what type they are said to be is not looked at. Raises InvalidRequestError.

    base64 is strict about its alphabet, and lenient as browsers are: whitespace, `%`-escapes and missing padding pass.
    """
    head, comma, payload = url.partition(",")
    if not comma:
        raise _bad_base64("The image's data: URL has no comma, after which the data would begin.")
    if not head.rstrip().lower().endswith(";base64"):
        return require_bytes(unquote_to_bytes(payload), max_bytes)
    encoded = unquote_to_bytes(payload) if "%" in payload else payload.encode()
    encoded = encoded.translate(None, _WHITESPACE).rstrip(b"=")
    if len(encoded) * 3 // 4 > max_bytes:
        raise too_many_bytes(max_bytes, len(encoded) * 3 // 4)
    try:
        return binascii.a2b_base64(encoded + b"=" * (-len(encoded) % 4), strict_mode=True)
    except binascii.Error as error:
        raise _bad_base64("The image's data: URL is not valid base64.") from error


def require_bytes(data: bytes, max_bytes: int) -> bytes:
    """The same bytes. Raises InvalidRequestError when there are too many."""
    if len(data) > max_bytes:
        raise too_many_bytes(max_bytes, len(data))
    return data


def too_many_bytes(max_bytes: int, count: int | None = None) -> InvalidRequestError:
    """The refusal of a file over the limit; `count` is how large it is or says it is, where known."""
    has = f"more than the limit of {max_bytes} bytes" if count is None else f"{count} bytes; the limit is {max_bytes}"
    return InvalidRequestError(f"The image file has {has}.", code="image_file_too_large")


def _bad_url(message: str) -> InvalidRequestError:
    return InvalidRequestError(message, code="invalid_image_url")


def _bad_base64(message: str) -> InvalidRequestError:
    return InvalidRequestError(message, code="invalid_base64_image")
