"""Copies of weights that were coded at load, so that the next start reads codes and computes none.

A copy is a safetensors file `<folder>/<where>-<what>/<format>.safetensors`: `where` is a digest of the checkpoint's
path, `what` one of its config.json's bytes, its files' names, sizes and times of change, and this module's version. It
holds the matrices in the layout that kernels read; norms and the vision tower are read from the checkpoint.

It is written by a thread, beside whatever the worker does, under a name of its own until all is on the disk; of several
workers that begin together one writes. What goes wrong there is logged: the weights are in place all the same.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from gemmad.errors import CheckpointError
from gemmad.logs import get_logger
from gemmad.models.loading import Job
from gemmad.models.tensorfile import StoredTensor, encode_header, kind_of, read_header, read_metadata

LAYOUT = "1"
"""Of the codes (`gemmad.kernels.matrices`) and of how they are found; a copy of another is not read."""
PIECE_BYTES = 16 << 20
SYNC_BYTES = 256 << 20
"""So much is written between two waits for the disk: the last one, in which nobody can end it, is short."""
CLOSE_SECONDS = 5.0
_FREE_SHARE = 1.1

_log = get_logger(__name__)


@dataclass(frozen=True)
class CopyName:
    """Which copy: of what, and in which format."""

    where: str
    what: str
    format: str

    @property
    def path(self) -> Path:
        """In the folder of copies."""
        return Path(f"{self.where}-{self.what}") / f"{self.format}.safetensors"

    @property
    def metadata(self) -> dict[str, str]:
        """That the file has in its header."""
        return {"layout": LAYOUT, "source": self.what, "format": self.format}


def name_copy(folder: Path, files: Sequence[Path], *, format: str) -> CopyName:
    """The copy of a checkpoint as it is now. Raises CheckpointError for a file that is not there."""
    digest = hashlib.sha256(LAYOUT.encode())
    try:
        digest.update((folder / "config.json").read_bytes())
        for path in sorted(files):
            status = path.stat()
            digest.update(f"\0{path.name}\0{status.st_size}\0{status.st_mtime_ns}".encode())
    except OSError as error:
        raise CheckpointError(f"{error.filename} cannot be read: {error.strerror}") from error
    where = hashlib.sha256(os.fsencode(folder.resolve())).hexdigest()
    return CopyName(where[:16], digest.hexdigest()[:32], format)


class CodedCopies:
    """A folder of copies, and the thread that writes one. `close()` must be called where a thread may not stay."""

    def __init__(
        self, folder: Path, *, free_bytes: Callable[[Path], int] = lambda path: shutil.disk_usage(path).free
    ) -> None:
        """`folder` need not exist."""
        self._folder = folder
        self._free_bytes = free_bytes
        self._ending = threading.Event()
        self._thread: threading.Thread | None = None

    def jobs(self, name: CopyName, tensors: Mapping[str, torch.Tensor]) -> list[Job] | None:
        """What fills the tensors from a copy; None: there is none that is whole and of these very tensors."""
        path = self._folder / name.path
        if not path.exists():
            return None
        try:
            stored = _read(path, name)
            problem = _difference(stored, tensors)
        except CheckpointError as error:
            problem = str(error)
        if problem is not None:
            _log.warning("a copy of coded weights is of no use", path=str(path), reason=problem)
            self.discard(name)
            return None
        return [Job(stored[name], tensor.dtype, tensor) for name, tensor in tensors.items()]

    def discard(self, name: CopyName) -> None:
        """Forget a copy that could not be read after all."""
        with contextlib.suppress(OSError):
            (self._folder / name.path).unlink()

    def keep(self, name: CopyName, tensors: Mapping[str, torch.Tensor]) -> None:
        """Begin to write one. The tensors must not change any more; they are held until it is done."""
        assert self._thread is None, "one load, one copy"
        self._thread = threading.Thread(target=self._write, args=(name, tensors), name="coded copy", daemon=True)
        self._thread.start()

    def wait(self, timeout_seconds: float) -> bool:
        """Until what was begun is done; False if it is not by then."""
        if self._thread is not None:
            self._thread.join(timeout_seconds)
        return self._thread is None or not self._thread.is_alive()

    def end(self) -> None:
        """Let it end soon, done or not."""
        self._ending.set()

    def close(self) -> None:
        """End it, and wait. A disk that does not answer is left to the end of the process."""
        self.end()
        self.wait(CLOSE_SECONDS)

    @torch.inference_mode()
    def _write(self, name: CopyName, tensors: Mapping[str, torch.Tensor]) -> None:
        began, path = time.monotonic(), self._folder / name.path
        size = sum(tensor.nbytes for tensor in tensors.values())
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with _alone(self._folder / f"{name.where}.lock") as alone:
                if not alone or _is_there(path, name):
                    return
                self._remove_stale(name)
                if (free := self._free_bytes(path.parent)) < _FREE_SHARE * size:
                    _log.warning("no room for a copy of coded weights", path=str(path), bytes=size, free_bytes=free)
                    return
                done = self._write_file(path, name, tensors)
        except OSError as error:
            _log.warning("no copy of coded weights", path=str(path), reason=str(error))
            return
        except Exception as error:  # what a device raises: the engine's own work will come upon it
            _log.error("no copy of coded weights", path=str(path), reason=repr(error))
            return
        if done:
            seconds = round(time.monotonic() - began, 3)
            _log.info("coded weights copied", path=str(path), bytes=size, seconds=seconds)

    def _write_file(self, path: Path, name: CopyName, tensors: Mapping[str, torch.Tensor]) -> bool:
        """Whether all of it is there now."""
        draft = path.with_suffix(".part")
        try:
            with draft.open("wb", buffering=0) as file:
                _write_all(file.fileno(), memoryview(encode_header(tensors, metadata=name.metadata)))
                written = 0
                for piece in _pieces(tensors.values()):
                    if self._ending.is_set():
                        return False
                    _write_all(file.fileno(), piece)
                    written += len(piece)
                    if written >= SYNC_BYTES:
                        os.fdatasync(file.fileno())
                        written = 0
                os.fsync(file.fileno())
            draft.rename(path)
            _sync_folder(path.parent)
            return True
        finally:
            with contextlib.suppress(OSError):
                draft.unlink()

    def _remove_stale(self, name: CopyName) -> None:
        """Copies of what the checkpoint was before."""
        for old in self._folder.glob(f"{name.where}-*"):
            if old.name != name.path.parent.name:
                _log.info("a stale copy of coded weights is removed", path=str(old))
                shutil.rmtree(old, ignore_errors=True)


def _read(path: Path, name: CopyName) -> dict[str, StoredTensor]:
    stored = {tensor.name: tensor for tensor in read_header(path)}
    if (found := read_metadata(path)) != name.metadata:
        raise CheckpointError(f"{path} says of itself {found}, not {name.metadata}")
    return stored


def _is_there(path: Path, name: CopyName) -> bool:
    try:
        return bool(_read(path, name))
    except CheckpointError:
        return False


def _difference(stored: Mapping[str, StoredTensor], tensors: Mapping[str, torch.Tensor]) -> str | None:
    if stored.keys() != tensors.keys():
        return f"{len(stored)} tensors, not {len(tensors)}"
    for name, tensor in tensors.items():
        found, wanted = (stored[name].kind, stored[name].shape), (kind_of(tensor.dtype), tuple(tensor.shape))
        if found != wanted:
            return f"{name} is {found}, not {wanted}"
    return None


def _pieces(tensors: Iterable[torch.Tensor]) -> Iterator[memoryview]:
    """Their bytes, each piece to be used before the next is asked for."""
    host: _Host | None = None
    for tensor in tensors:
        flat = tensor.view(-1).view(torch.uint8)
        if flat.is_cuda:
            host = host or _Host(flat.device)
        for at in range(0, len(flat), PIECE_BYTES):
            piece = flat[at : at + PIECE_BYTES]
            yield (piece if host is None else host.take(piece)).numpy().data


class _Host:
    """A buffer in the host's memory, and a GPU's stream that fills it."""

    def __init__(self, device: torch.device) -> None:
        self._held = torch.empty(PIECE_BYTES, dtype=torch.uint8, pin_memory=True)
        # Of high priority: torch hands streams out of two small pools in turn, and this one is nobody else's so.
        self._stream = torch.cuda.Stream(device, priority=-1)  # type: ignore[no-untyped-call]

    def take(self, piece: torch.Tensor) -> torch.Tensor:
        """The same bytes in the host's memory, until the next call."""
        held = self._held[: len(piece)]
        with torch.cuda.stream(self._stream):
            held.copy_(piece, non_blocking=True)
        self._stream.synchronize()
        return held


def _write_all(file: int, data: memoryview) -> None:
    while data:
        data = data[os.write(file, data) :]


def _sync_folder(folder: Path) -> None:
    file = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(file)
    finally:
        os.close(file)


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[bool]:
    """Whether nobody else is here meanwhile."""
    lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        yield False
    else:
        yield True
    finally:
        os.close(lock)
