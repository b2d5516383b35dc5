"""What of a checkpoint's files goes where."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from gemmad.errors import CheckpointError
from gemmad.kernels.matrices import CodedMatrix, Matrix
from gemmad.models.formats.names import plain_name
from gemmad.models.loading import Job, RowJob
from gemmad.models.quantising import code_rows, refuse_faults
from gemmad.models.tensorfile import StoredTensor


@dataclass(frozen=True)
class Target:
    """Where one tensor of a file goes."""

    tensor: Matrix
    """Rows of a coded matrix are coded on their way."""
    offset: float = 0.0
    """Added in float32: Gemma's norms multiply by 1 + w."""


class Filling:
    """Jobs that fill targets, and what came up in them."""

    def __init__(self, folder: Path, targets: Mapping[str, Target], *, device: torch.device) -> None:
        self._folder = folder
        self._targets = targets
        self._faults = torch.zeros(len(targets), dtype=torch.bool, device=device)
        self._sources: dict[str, StoredTensor] = {}

    def jobs(self, stored: Iterable[StoredTensor]) -> list[Job | RowJob]:
        """For every target one; all else in the files stays there.

        Raises CheckpointError for tensors that are missing, there twice, of another shape or of a kind of number that
        no weight is read from.
        """
        for source in stored:
            name = plain_name(source.name)
            if name in self._targets:
                self._add(name, source)
        if missing := sorted(self._targets.keys() - self._sources.keys()):
            raise CheckpointError(f"{self._folder}: {len(missing)} tensors are missing, the first is {missing[0]}")
        return [self._job(index, name) for index, name in enumerate(self._targets)]

    def finish(self) -> None:
        """Once the jobs are done. Raises CheckpointError for a matrix that could not be coded."""
        for index in self._faults.nonzero().flatten().tolist():
            source = self._sources[list(self._targets)[index]]
            refuse_faults(self._faults[index], f"{source.path}: {source.name}")
        for target in self._targets.values():
            if target.offset:
                assert isinstance(target.tensor, torch.Tensor), "norms are not coded"
                target.tensor.add_(target.offset)

    def _add(self, name: str, source: StoredTensor) -> None:
        if name in self._sources:
            other = self._sources[name]
            raise CheckpointError(f"{source.path}: {source.name} is there twice, also as {other.name} in {other.path}")
        wanted = self._targets[name].tensor.shape
        if source.shape != tuple(wanted):
            found = list(source.shape)
            raise CheckpointError(f"{source.path}: {source.name} is {found}, the config asks for {list(wanted)}")
        self._sources[name] = source

    def _job(self, index: int, name: str) -> Job | RowJob:
        source, target = self._sources[name], self._targets[name].tensor
        if isinstance(target, torch.Tensor):
            return Job(source, source.dtype, target)
        return RowJob(source, source.dtype, _Coder(target, self._faults[index]).take)


@dataclass(frozen=True)
class _Coder:
    """Codes rows of one matrix."""

    into: CodedMatrix
    faults: torch.Tensor

    def take(self, first: int, rows: torch.Tensor) -> None:
        """As `RowJob.take`."""
        code_rows(rows, self.into.rows(first, first + len(rows)), self.faults)
