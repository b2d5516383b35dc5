"""Decoded pictures in sealed memfds: made in a media process, checked and held by the daemon, mapped by a worker.

A sealed memfd can neither change nor shrink under whoever reads it, and is gone with the last process that holds it.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import struct

from gemmad.errors import ProtocolError

SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
_MFD_NOEXEC_SEAL = 0x8
"""Wanted by kernels with vm.memfd_noexec=2, unknown to those before 6.3."""


class Pixels:
    """One picture as the vision tower wants it: `[height, width, 3]` uint8 behind `fd`, which `close()` gives back.

    Equal digests mean equal pixels. Whoever is handed a Pixels owns it; `duplicate()` makes another to own.
    """

    __slots__ = ("_fd", "digest", "height", "width")

    def __init__(self, fd: int, *, digest: str, height: int, width: int) -> None:
        """Takes `fd` over, also when it raises: ProtocolError if it is not sealed or not of this size."""
        self._fd = fd
        self.digest = digest
        self.height = height
        self.width = width
        try:
            self._check()
        except ProtocolError:
            self.close()
            raise

    @property
    def fd(self) -> int:
        """The memfd; -1 once closed."""
        return self._fd

    @property
    def nbytes(self) -> int:
        """Bytes of the picture."""
        return self.height * self.width * 3

    def duplicate(self) -> Pixels:
        """The same picture behind a descriptor of its own. Raises OSError when there is none left."""
        return Pixels(os.dup(self._fd), digest=self.digest, height=self.height, width=self.width)

    def close(self) -> None:
        """Give the descriptor back; again is nothing."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def __repr__(self) -> str:
        return f"Pixels({self.digest}, {self.height}×{self.width}, fd {self._fd})"

    def _check(self) -> None:
        try:
            seals = fcntl.fcntl(self._fd, fcntl.F_GET_SEALS)
        except OSError as error:
            raise ProtocolError("the pixels are not in a memfd") from error
        if seals & SEALS != SEALS:
            raise ProtocolError(f"the pixels' memfd has the seals {seals:#x}, not {SEALS:#x}")
        size = os.fstat(self._fd).st_size
        if size != self.nbytes:
            raise ProtocolError(f"the pixels have {size} bytes, not {self.nbytes}")


def digest_of(data: bytes | bytearray | memoryview, *, height: int, width: int) -> str:
    """128 bits of BLAKE2b over the size and the bytes, in hex."""
    state = hashlib.blake2b(struct.pack("<II", height, width), digest_size=16)
    state.update(data)
    return state.hexdigest()


def seal(data: bytes) -> int:
    """A memfd that holds `data` for good. The caller closes it. Raises OSError."""
    fd = _memfd()
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(fd, view) :]
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, SEALS)
    except BaseException:
        os.close(fd)
        raise
    return fd


def _memfd() -> int:
    flags = os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING
    try:
        return os.memfd_create("gemmad-pixels", flags | _MFD_NOEXEC_SEAL)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
    return os.memfd_create("gemmad-pixels", flags)
