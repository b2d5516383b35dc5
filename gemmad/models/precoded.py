"""Weights from a checkpoint that comes quantised: codes as they are, and what it has otherwise, coded or decoded."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from dataclasses import replace
from pathlib import Path

import torch

from gemmad.kernels.matrices import CodedMatrix, Matrix, decode
from gemmad.logs import get_logger
from gemmad.models.formats.source import CodedCheckpoint, MatrixSource, RowSource
from gemmad.models.loading import Filled, Progress, fill
from gemmad.models.quantising import code_rows, refuse_faults
from gemmad.models.targets import Filling, Target

PIECE_BYTES = 16 << 20
"""Of decoded numbers in float32: so many rows are read at a time."""
MOST_THREADS = 4
REPORT_SECONDS = 0.1

_log = get_logger(__name__)


def fill_from(
    checkpoint: CodedCheckpoint,
    targets: Mapping[str, Target],
    *,
    folder: Path,
    device: torch.device,
    progress: Progress | None = None,
) -> Filled:
    """Fill every target; all is there when this returns. `progress` hears the share of rows' bytes done.

    Raises CheckpointError as `load_weights` does.
    """
    began = time.monotonic()
    if checkpoint.norms_hold_one:
        targets = {name: replace(target, offset=0.0) for name, target in targets.items()}
    sources: dict[str, MatrixSource | RowSource] = {**checkpoint.coded, **checkpoint.decoded}
    sources = {name: source for name, source in sources.items() if name in targets}
    plain = {name: target for name, target in targets.items() if name not in sources}
    anew = [name for name in checkpoint.decoded if name in sources and isinstance(targets[name].tensor, CodedMatrix)]
    if anew:
        _log.info("matrices are coded anew", kind="int8", matrices=len(anew), first=anew[0])
    filling = Filling(folder, plain, device=device)
    jobs = filling.jobs(checkpoint.plain)  # what is missing is told before anything is read
    reading = _Reading(sources, targets, device)
    with ThreadPoolExecutor(MOST_THREADS, thread_name_prefix="read") as pool:
        pieces = [pool.submit(reading.carry, name, start, stop) for name, start, stop in reading.pieces()]
        try:
            _wait(pieces, progress)
        finally:
            pool.shutdown(cancel_futures=True)
    reading.finish()
    filled = fill(jobs, device=device)
    filling.finish()
    if progress is not None:
        progress(1.0)
    nbytes = sum(targets[name].tensor.nbytes for name in sources) + filled.nbytes
    return Filled(nbytes, time.monotonic() - began, MOST_THREADS)


class _Reading:
    """Tensors that are not plain, in pieces, by several threads."""

    def __init__(
        self, sources: Mapping[str, MatrixSource | RowSource], targets: Mapping[str, Target], device: torch.device
    ) -> None:
        self._sources = sources
        self._targets = targets
        self._device = device
        self._coding = threading.Lock()
        self._faults = {name: torch.zeros((), dtype=torch.bool, device=device) for name in sources}

    def pieces(self) -> Iterator[tuple[str, int, int]]:
        """(name, first row, row after the last) of all there is to read."""
        for name, source in self._sources.items():
            row_bytes = 4 * max(1, torch.Size(source.shape[1:]).numel())
            step = max(1, PIECE_BYTES // row_bytes)
            for start in range(0, source.shape[0], step):
                yield name, start, min(start + step, source.shape[0])

    @torch.inference_mode()
    def carry(self, name: str, start: int, stop: int) -> None:
        """One piece to its place."""
        part = self._sources[name].read(start, stop, self._device)
        target = self._targets[name]
        into = _rows(target.tensor, start, stop)
        if isinstance(into, torch.Tensor):
            numbers = part if isinstance(part, torch.Tensor) else decode(part)
            into.copy_(numbers + target.offset)
        elif isinstance(part, CodedMatrix):
            for mine, its in zip(into.tensors(), part.tensors(), strict=True):
                mine.copy_(its)
        else:
            with self._coding:  # one piece's workspace at a time
                code_rows(part, into, self._faults[name])

    def finish(self) -> None:
        """Raises CheckpointError for a matrix that could not be coded."""
        for name, faults in self._faults.items():
            refuse_faults(faults, self._sources[name].name)


def _rows(tensor: Matrix, start: int, stop: int) -> Matrix:
    return tensor[start:stop] if isinstance(tensor, torch.Tensor) else tensor.rows(start, stop)


def _wait(pieces: list[Future[None]], progress: Progress | None) -> None:
    pending = set(pieces)
    while pending:
        ended, pending = wait(pending, timeout=REPORT_SECONDS, return_when=FIRST_EXCEPTION)
        for piece in ended:
            piece.result()
        if progress is not None:
            progress(1 - len(pending) / len(pieces))
