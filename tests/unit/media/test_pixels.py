"""Sealed pixels."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator

import pytest

from gemmad.errors import ProtocolError
from gemmad.media.pixels import SEALS, Pixels, digest_of, seal

DATA = bytes(range(2 * 3 * 3))


@pytest.fixture(autouse=True)
def _no_descriptor_is_left() -> Iterator[None]:
    before = os.listdir("/proc/self/fd")
    yield
    assert os.listdir("/proc/self/fd") == before


def _pixels(fd: int, *, height: int = 2, width: int = 3) -> Pixels:
    return Pixels(fd, digest="d", height=height, width=width)


def test_what_was_sealed_is_there() -> None:
    """The memfd holds the bytes, and nothing can change, shrink, grow or unseal it."""
    pixels = _pixels(seal(DATA))
    assert os.pread(pixels.fd, 100, 0) == DATA
    assert pixels.nbytes == len(DATA)
    with pytest.raises(PermissionError):
        os.pwrite(pixels.fd, b"x", 0)
    with pytest.raises(PermissionError):
        os.ftruncate(pixels.fd, 0)
    with pytest.raises(PermissionError):
        os.ftruncate(pixels.fd, 100)
    assert fcntl.fcntl(pixels.fd, fcntl.F_GET_SEALS) & SEALS == SEALS
    pixels.close()


def test_closing_twice_closes_once() -> None:
    """A second close() does not close whatever has the number by then."""
    pixels = _pixels(seal(DATA))
    number = pixels.fd
    pixels.close()
    again = os.open("/dev/null", os.O_RDONLY)
    assert again == number
    pixels.close()
    os.fstat(again)
    os.close(again)
    assert pixels.fd == -1


def test_a_duplicate_outlives_the_original() -> None:
    """Each owner closes its own."""
    pixels = _pixels(seal(DATA))
    other = pixels.duplicate()
    pixels.close()
    assert os.pread(other.fd, 100, 0) == DATA
    assert other.digest == "d"
    other.close()


def test_the_wrong_size_is_refused() -> None:
    """A memfd of other than height × width × 3 bytes is a ProtocolError, and closed."""
    with pytest.raises(ProtocolError, match="18 bytes, not 12"):
        _pixels(seal(DATA), width=2)


def test_a_memfd_that_may_change_is_refused() -> None:
    """Every seal must be there."""
    fd = os.memfd_create("pixels", os.MFD_ALLOW_SEALING)
    os.write(fd, DATA)
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, SEALS & ~fcntl.F_SEAL_WRITE)
    with pytest.raises(ProtocolError, match="seals"):
        _pixels(fd)


def test_what_is_no_memfd_is_refused() -> None:
    """A file or a pipe cannot be sealed."""
    reader, writer = os.pipe()
    os.close(writer)
    with pytest.raises(ProtocolError, match="not in a memfd"):
        _pixels(reader)
    with pytest.raises(ProtocolError, match="not in a memfd"):
        _pixels(os.open("/dev/null", os.O_RDONLY))


def test_the_digest_covers_size_and_bytes() -> None:
    """Equal bytes of another shape, and other bytes of the same shape, have other digests."""
    digests = {
        digest_of(DATA, height=2, width=3),
        digest_of(DATA, height=3, width=2),
        digest_of(DATA[::-1], height=2, width=3),
    }
    assert len(digests) == 3
    assert all(len(digest) == 32 for digest in digests)
    assert digest_of(bytearray(DATA), height=2, width=3) in digests
