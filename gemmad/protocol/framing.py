"""Frames without I/O: bytes in, messages out. A frame is a little-endian u32 length and that many bytes of msgpack."""

from __future__ import annotations

import struct
from typing import Any, Generic, TypeVar

import msgspec

from gemmad.errors import ProtocolError

LENGTH = struct.Struct("<I")
MAX_FRAME_BYTES = 64 << 20

T = TypeVar("T")

_encoder = msgspec.msgpack.Encoder()


def encode_frame(message: msgspec.Struct) -> bytes:
    """One message as one frame. Raises ProtocolError when it is over `MAX_FRAME_BYTES`."""
    body = _encoder.encode(message)
    if len(body) > MAX_FRAME_BYTES:
        raise ProtocolError(f"a {type(message).__name__} of {len(body)} bytes is over the frame limit")
    return LENGTH.pack(len(body)) + body


class FrameDecoder(Generic[T]):
    """Cuts a byte stream into messages of one union. After a ProtocolError the stream is lost and so is the decoder."""

    def __init__(self, union: Any) -> None:
        self._decoder: msgspec.msgpack.Decoder[T] = msgspec.msgpack.Decoder(union)
        self._buffer = bytearray()

    def feed(self, data: bytes | bytearray | memoryview) -> list[T]:
        """Messages that `data` completes, in order. Raises ProtocolError on what is no message of the union."""
        self._buffer += data
        messages: list[T] = []
        start = 0
        while len(self._buffer) - start >= LENGTH.size:
            (length,) = LENGTH.unpack_from(self._buffer, start)
            if length > MAX_FRAME_BYTES:
                raise ProtocolError(f"a frame announces {length} bytes, over the limit of {MAX_FRAME_BYTES}")
            end = start + LENGTH.size + length
            if len(self._buffer) < end:
                break
            messages.append(self._decode(bytes(self._buffer[start + LENGTH.size : end])))
            start = end
        del self._buffer[:start]
        return messages

    @property
    def pending_bytes(self) -> int:
        """Bytes of a frame that has begun and not ended."""
        return len(self._buffer)

    def _decode(self, body: bytes) -> T:
        try:
            return self._decoder.decode(body)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:  # names field and expectation
            raise ProtocolError(f"not a message: {error}") from error
