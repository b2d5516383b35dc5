"""From files into the memory where tensors stay, by several threads and through buffers of a fixed size.

One thread reads at a few GB/s, even from the page cache, and a GPU's link takes ten times that. So tensors are cut into
pieces, and each thread carries piece after piece: pread into a buffer, from there into the tensor's place. On a GPU the
buffers are pinned and there are two a thread, so that one is read into while the other is sent. On a CPU, bytes that
need no conversion are read straight into place. What else is in the files is never read.

Rows that are to be coded are handed over instead, through one buffer of the device: the next pieces are read while one
is worked on.

Host memory beyond the tensors: at most threads · BUFFERS · piece_bytes, given back at the end.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path

import torch

from gemmad.errors import CheckpointError
from gemmad.models.tensorfile import StoredTensor

PIECE_BYTES = 16 << 20
MOST_THREADS = 8
BUFFERS = 2
REPORT_SECONDS = 0.1

Progress = Callable[[float], None]


@dataclass(frozen=True)
class Job:
    """A stored tensor, and the memory of the same shape that it fills: contiguous, of any floating dtype."""

    source: StoredTensor
    dtype: torch.dtype
    """What the file's bytes are read as."""
    target: torch.Tensor


@dataclass(frozen=True)
class RowJob:
    """A stored matrix that is handed over in pieces of whole rows, in any order."""

    source: StoredTensor
    dtype: torch.dtype
    """What the file's bytes are read as."""
    take: Callable[[int, torch.Tensor], None]
    """Gets the index of the first row, and rows [n, K] of `dtype` on the device. One piece of all at a time; its memory
    is lent for the call, or on a GPU for what the call queues on the current stream."""


@dataclass(frozen=True)
class Filled:
    """What a call of `fill` has done."""

    nbytes: int
    """Read from the files."""
    seconds: float
    threads: int

    @property
    def gigabytes_per_second(self) -> float:
        """10⁹ bytes."""
        return self.nbytes / 1e9 / max(self.seconds, 1e-9)


def fill(
    jobs: Sequence[Job | RowJob],
    *,
    device: torch.device,
    progress: Progress | None = None,
    threads: int | None = None,
    piece_bytes: int = PIECE_BYTES,
) -> Filled:
    """Copy every tensor into its place on `device`, and hand rows over; all is done when this returns.

    `progress` hears the share of bytes done, from the calling thread. `threads` None: as many as pay.

    Raises CheckpointError for a file that cannot be read or ends too early, and what the device or a `take` raises as
    it is. No thread is left then.
    """
    began = time.monotonic()
    pieces = _cut(jobs, piece_bytes)
    count = max(1, min(threads or _threads(jobs, device), len(pieces)))
    if device.type == "cuda":
        torch.cuda.synchronize(device)  # the lanes' streams know nothing of what went on before
    largest = max((piece.nbytes for piece in pieces), default=0)
    work, desk = _Work(pieces), _Desk(device)
    with ThreadPoolExecutor(count, thread_name_prefix="load") as pool:
        try:
            lanes = [pool.submit(_haul, work, desk, device, largest) for _ in range(count)]
            _wait(lanes, work, progress)
        finally:
            work.stop()
    desk.close()
    if device.type == "cuda":
        _give_back_buffers()
    return Filled(work.total_bytes, time.monotonic() - began, count)


@dataclass(frozen=True)
class _Piece:
    """Bytes of a file, and the elements that they are."""

    source: StoredTensor
    dtype: torch.dtype
    offset: int
    nbytes: int
    target: torch.Tensor | _Taker
    """One dimension; or who takes rows."""


@dataclass(frozen=True)
class _Taker:
    """Where rows of a matrix go."""

    take: Callable[[int, torch.Tensor], None]
    first: int
    columns: int


def _cut(jobs: Sequence[Job | RowJob], piece_bytes: int) -> list[_Piece]:
    """Every byte once, in the order of the files: the disk reads ahead."""
    pieces: list[_Piece] = []
    for job in sorted(jobs, key=lambda job: (job.source.path, job.source.start)):
        if isinstance(job, RowJob):
            pieces += _cut_rows(job, piece_bytes)
            continue
        flat, item = job.target.view(-1), job.dtype.itemsize
        step = piece_bytes // item
        for first in range(0, len(flat), step):
            target = flat[first : first + step]
            offset = job.source.start + first * item
            pieces.append(_Piece(job.source, job.dtype, offset, len(target) * item, target))
    return pieces


def _cut_rows(job: RowJob, piece_bytes: int) -> Iterator[_Piece]:
    """Whole rows, as many as a piece has room for, one at least."""
    rows, columns = job.source.shape
    row_bytes = columns * job.dtype.itemsize
    step = max(1, piece_bytes // row_bytes)
    for first in range(0, rows, step):
        nbytes = min(step, rows - first) * row_bytes
        taker = _Taker(job.take, first, columns)
        yield _Piece(job.source, job.dtype, job.source.start + first * row_bytes, nbytes, taker)


def _threads(jobs: Sequence[Job | RowJob], device: torch.device) -> int:
    if device.type == "cpu" and any(isinstance(job, RowJob) for job in jobs):
        return 2  # one reads while torch works for the other, on all cores by itself
    if device.type == "cpu" and any(isinstance(job, Job) and job.dtype != job.target.dtype for job in jobs):
        return 1  # torch shares each conversion out among all cores by itself
    return min(MOST_THREADS, len(os.sched_getaffinity(0)))


class _Work:
    """Pieces that are left, for several threads."""

    def __init__(self, pieces: Sequence[_Piece]) -> None:
        self.total_bytes = sum(piece.nbytes for piece in pieces)
        self.done_bytes = 0
        self._left: Iterator[_Piece] = iter(pieces)
        self._stopped = False
        self._lock = threading.Lock()

    def take(self, *, done_bytes: int) -> _Piece | None:
        """The next piece, for one who is done with the last; None: nothing is left, or it is over."""
        with self._lock:
            self.done_bytes += done_bytes
            return None if self._stopped else next(self._left, None)

    def stop(self) -> None:
        """Nobody gets another piece."""
        with self._lock:
            self._stopped = True


def _wait(lanes: Sequence[Future[None]], work: _Work, progress: Progress | None) -> None:
    pending: set[Future[None]] = set(lanes)
    while pending:
        ended, pending = wait(pending, timeout=REPORT_SECONDS, return_when=FIRST_EXCEPTION)
        for lane in ended:
            lane.result()
        if progress is not None:
            progress(work.done_bytes / work.total_bytes if work.total_bytes else 1.0)


class _Desk:
    """Where rows are handed over, one piece at a time."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._lock = threading.Lock()
        self._room = torch.empty(0, dtype=torch.uint8, device=device)
        self._stream: torch.cuda.Stream | None = None
        if device.type == "cuda":
            self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    def hand_over(self, piece: _Piece, found: torch.Tensor, sent: torch.cuda.Event | None) -> None:
        """Give a piece's bytes to who takes them; `sent` is recorded where they have left `found`, a pinned buffer."""
        assert isinstance(piece.target, _Taker)
        taker = piece.target
        with self._lock:
            if self._stream is None:
                taker.take(taker.first, found.view(piece.dtype).view(-1, taker.columns))
                return
            assert sent is not None
            # What the last piece queued here goes before: one buffer is enough, and one piece's workspace.
            with torch.cuda.stream(self._stream):
                if len(self._room) < piece.nbytes:
                    self._room = torch.empty(piece.nbytes, dtype=torch.uint8, device=self._device)
                room = self._room[: piece.nbytes]
                room.copy_(found, non_blocking=True)
                sent.record(self._stream)
                taker.take(taker.first, room.view(piece.dtype).view(-1, taker.columns))

    def close(self) -> None:
        """Wait until all that was queued is done, and let go of the memory."""
        if self._stream is not None:
            self._stream.synchronize()
        self._room = torch.empty(0)


@torch.inference_mode()  # a thread's own: whoever allocated the targets may have been in it, or not
def _haul(work: _Work, desk: _Desk, device: torch.device, piece_bytes: int) -> None:
    """What a thread does."""
    with contextlib.closing(_Lane(device, desk, piece_bytes)) as lane:
        done_bytes = 0
        while (piece := work.take(done_bytes=done_bytes)) is not None:
            lane.carry(piece)
            done_bytes = piece.nbytes
        lane.arrive()


class _Lane:
    """One thread's open files, and its buffers in turn. `close()` must be called in the end."""

    def __init__(self, device: torch.device, desk: _Desk, piece_bytes: int) -> None:
        self._device = device
        self._desk = desk
        self._piece_bytes = piece_bytes
        self._files: dict[Path, int] = {}
        self._buffers: list[tuple[torch.Tensor, torch.cuda.Event | None]] = []
        self._carried = 0
        self._stream: torch.cuda.Stream | None = None
        if device.type == "cuda":
            self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    def carry(self, piece: _Piece) -> None:
        """Read a piece and send it on its way."""
        target = piece.target
        if self._stream is None and isinstance(target, torch.Tensor) and piece.dtype == target.dtype:
            self._read(piece, _bytes(target))
            return
        buffer, sent = self._next_buffer()
        if sent is not None:
            sent.synchronize()  # its last piece has left
        found = buffer[: piece.nbytes]
        self._read(piece, _bytes(found))
        if isinstance(target, torch.Tensor):
            self._send(found.view(piece.dtype), target, sent)
        else:
            self._desk.hand_over(piece, found, sent)

    def arrive(self) -> None:
        """Wait until all that was sent is there."""
        if self._stream is not None:
            self._stream.synchronize()

    def close(self) -> None:
        """Let go of the files."""
        for file in self._files.values():
            os.close(file)
        self._files.clear()

    def _send(self, numbers: torch.Tensor, target: torch.Tensor, sent: torch.cuda.Event | None) -> None:
        if self._stream is None:
            target.copy_(numbers)
            return
        assert sent is not None
        with torch.cuda.stream(self._stream):
            if numbers.dtype != target.dtype:
                # Over there: the link carries what the file has, and the GPU is quicker at it.
                numbers = numbers.to(self._device, non_blocking=True)
            target.copy_(numbers, non_blocking=True)
            sent.record(self._stream)

    def _next_buffer(self) -> tuple[torch.Tensor, torch.cuda.Event | None]:
        pinned = self._stream is not None
        turn = self._carried % (BUFFERS if pinned else 1)
        self._carried += 1
        if turn == len(self._buffers):
            buffer = torch.empty(self._piece_bytes, dtype=torch.uint8, pin_memory=pinned)
            event = torch.cuda.Event() if pinned else None  # type: ignore[no-untyped-call]
            self._buffers.append((buffer, event))
        return self._buffers[turn]

    def _read(self, piece: _Piece, into: memoryview) -> None:
        path, at = piece.source.path, 0
        try:
            while at < piece.nbytes:
                count = os.preadv(self._file(path), [into[at:]], piece.offset + at)
                if count == 0:
                    raise CheckpointError(f"{path} is broken: it ends within {piece.source.name}")
                at += count
        except OSError as error:
            raise CheckpointError(f"{path} cannot be read: {error.strerror}") from error

    def _file(self, path: Path) -> int:
        file = self._files.get(path)
        if file is None:
            # One of its own: the kernel's reading ahead follows each open file by itself.
            file = self._files[path] = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            os.posix_fadvise(file, 0, 0, os.POSIX_FADV_SEQUENTIAL)
        return file


def _bytes(tensor: torch.Tensor) -> memoryview:
    """The memory of a contiguous tensor on the CPU."""
    return tensor.view(torch.uint8).numpy().data


def _give_back_buffers() -> None:
    """torch keeps what was freed, pinned and on the device, for a next time that will not come."""
    empty_host_cache = getattr(torch.accelerator, "empty_host_cache", None) or torch._C._host_emptyCache
    empty_host_cache()
    torch.cuda.empty_cache()
