"""One run: the reference first, then every other combination on the same tokens, each figure written as it comes."""

from __future__ import annotations

import datetime
import itertools
import time
import traceback
from pathlib import Path
from typing import Any, Protocol

import msgspec
import torch

import gemmad
from gemmad.bench.facts import device_facts, git_commit, library_versions
from gemmad.bench.hardware import choose_device
from gemmad.bench.paged import PagedNetwork
from gemmad.bench.subject import free_device
from gemmad.errors import GemmadError, MemoryPlanError
from gemmad.evaluate.divergence import Tally
from gemmad.evaluate.record import Recorder, Row, figures
from gemmad.evaluate.scoring import Steps, scored_rows
from gemmad.evaluate.subjects import Subjects
from gemmad.evaluate.truth import Truth, require_room
from gemmad.evaluate.wanted import UNQUANTISED, CodedKV, Wanted
from gemmad.generation import WeightFormat, usual_page_tokens
from gemmad.models.weights import Weights


class Telling(Protocol):
    """Whoever shows how far it is."""

    def doing(self, words: str) -> None:
        """What goes on now."""

    def done(self, row: Row) -> None:
        """A row that came."""


class Run:
    """Owns the weights, of one format at a time, the reference's logits and the record."""

    def __init__(self, wanted: Wanted, folder: Path, *, telling: Telling) -> None:
        """`folder` is empty and ours. Raises CheckpointError, ConfigError or MemoryPlanError for what cannot be had."""
        self._wanted = wanted
        self._telling = telling
        self._device = choose_device(wanted.device)
        if wanted.threads is not None:
            torch.set_num_threads(wanted.threads)
        model = folder / "model"
        model.mkdir()
        self._subjects = Subjects(wanted, model, device=self._device)
        self._windows, text = self._subjects.windows(wanted)
        self._scored = sum(len(window.scored) for window in self._windows)
        self._logits = folder / "logits"
        require_room(folder, self._scored * self._subjects.text.vocab_size * self._logit_bytes)
        self.recorder = Recorder(Path(wanted.json) if wanted.json else None, self._facts() | text)

    def measure(self) -> None:
        """Every combination. One that fails is written down as failed, and the rest goes on; without the reference
        there is nothing to go on with, and its exception is raised."""
        vocab_size = self._subjects.text.vocab_size
        combinations = self._wanted.combinations(comes_coded=self._subjects.comes_coded)
        with Truth(self._logits, vocab_size=vocab_size) as truth:
            for kept, group in itertools.groupby(combinations, key=lambda pair: pair[0]):
                self._measure_format(kept, [kv for _, kv in group], truth)
                free_device(self._device)
        self.recorder.end("complete")

    def _measure_format(self, kept: WeightFormat, kinds: list[CodedKV], truth: Truth) -> None:
        try:
            weights = self._load(kept)
        except Exception as error:  # the other figures are still wanted
            self._give_up_without_reference(error)
            self._add_failed([Row(weights=kept, kv=kv) for kv in kinds], error)
            return
        for kv in kinds:
            row = Row(weights=kept, kv=kv, weight_bytes=weights.nbytes)
            try:
                self._add(self._measure(row, weights, truth))
            except Exception as error:  # likewise
                self._give_up_without_reference(error)
                self._add_failed([row], error)

    @torch.inference_mode()
    def _measure(self, row: Row, weights: Weights, truth: Truth) -> Row:
        """The first row is the reference, which writes what the others are compared with."""
        begun, tally, is_reference = time.perf_counter(), Tally(), (row.weights, row.kv) == UNQUANTISED
        network = self._network(weights, row.kv)
        truth.rewind()
        for rows in scored_rows(network, self._windows, self._steps):
            if is_reference:
                truth.write(rows.logits)
                tally.add(rows.logits, rows.targets)
            else:
                tally.add(rows.logits, rows.targets, truth.read(len(rows.targets)))
            self._telling.doing(f"{row.name}: {len(tally.losses) / self._scored:.0%}")
        row = msgspec.structs.replace(
            row, kv_bytes_per_token=network.kv_bytes_per_token, seconds=time.perf_counter() - begun
        )
        return figures(row, tally)

    def _network(self, weights: Weights, kv: CodedKV) -> PagedNetwork:
        wanted = self._wanted
        return PagedNetwork(
            self._subjects.text,
            weights,
            sequences=min(wanted.sequences, len(self._windows)) if wanted.mode == "decode" else 1,
            longest=wanted.context,
            kv=kv,
            page_tokens=wanted.page_tokens or usual_page_tokens(self._device.type),
            attention=wanted.attention,
        )

    @property
    def _steps(self) -> Steps:
        return Steps(self._wanted.mode, self._wanted.step_tokens, self._wanted.sequences)

    @property
    def _logit_bytes(self) -> int:
        return 4 if self._subjects.text.logit_softcap is not None else self._subjects.dtype.itemsize

    def _load(self, kept: WeightFormat) -> Weights:
        name = f"{kept} weights"
        self._telling.doing(name)
        return self._subjects.weights(kept, progress=lambda share: self._telling.doing(f"loading {name}: {share:.0%}"))

    def _give_up_without_reference(self, error: Exception) -> None:
        if self.recorder.report.rows:
            return
        if isinstance(error, torch.OutOfMemoryError):
            raise MemoryPlanError(
                f"the reference, unquantised, does not fit on {self._device}: take --device cpu, or --layers"
            ) from error
        raise error

    def _add_failed(self, rows: list[Row], error: Exception) -> None:
        if not isinstance(error, (GemmadError, torch.OutOfMemoryError)):
            traceback.print_exception(error)
        reason = str(error).strip().partition("\n")[0][:300] or type(error).__name__
        for row in rows:
            self._add(msgspec.structs.replace(row, status="failed", reason=reason))

    def _add(self, row: Row) -> None:
        self.recorder.add(row)
        self._telling.done(row)

    def _facts(self) -> dict[str, Any]:
        wanted, subjects = self._wanted, self._subjects
        return {
            "command": list(wanted.command),
            "gemmad": gemmad.__version__,
            "commit": git_commit(),
            "started": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "libraries": library_versions(),
            "device": device_facts(self._device),
            "model": {
                "name": subjects.name,
                "dtype": str(subjects.dtype).removeprefix("torch."),
                "text": msgspec.to_builtins(subjects.text),
            },
            "mode": wanted.mode,
            "step_tokens": wanted.step_tokens,
            "sequences": wanted.sequences if wanted.mode == "decode" else 1,
        }
