"""One run: build, measure what was asked for, write each figure down as it comes."""

from __future__ import annotations

import dataclasses
import datetime
import gc
import traceback
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Protocol

import msgspec
import torch

import gemmad
from gemmad.bench import again, agreement, compare, constrained, crowd, idle, mixed, speed, start
from gemmad.bench import memory as room
from gemmad.bench.facts import device_facts, git_commit, library_versions
from gemmad.bench.floor import Roof
from gemmad.bench.hardware import choose_device, measure_roof
from gemmad.bench.record import Recorder, Row
from gemmad.bench.rig import DoesNotApply, Rig, now
from gemmad.bench.sizes import sizes_for
from gemmad.bench.stage import Budget, Case, Stage
from gemmad.bench.subject import Subject, free_device
from gemmad.bench.wanted import Wanted

ON_THE_ENGINE: dict[str, Callable[[Stage], Iterator[Case]]] = {
    "memory": room.memory,
    "decode": speed.decode,
    "prefill": speed.prefill,
    "ttft": speed.ttft,
    "long": speed.long_decode,
    "throughput": crowd.throughput,
    "image": again.image,
    "idle": idle.idle,
    "load": crowd.load,
    "prefix": again.prefix,
    "mixed": mixed.mixed,
    "constrained": constrained.constrained,
}
"""Scenarios of one engine that is built once; the others come after it is gone."""


class Telling(Protocol):
    """Whoever shows how far it is."""

    def doing(self, words: str) -> None:
        """What goes on now."""

    def done(self, row: Row) -> None:
        """A row that came."""


class Run:
    """Owns the engine, the record and the time."""

    def __init__(self, wanted: Wanted, folder: Path, *, telling: Telling, budget: Budget) -> None:
        """`folder` is empty and ours. Raises CheckpointError for a model that cannot be measured."""
        self._wanted = wanted
        self._telling = telling
        self._budget = budget
        self._device = choose_device(wanted.device)
        if wanted.threads is not None:
            torch.set_num_threads(wanted.threads)
        self._sizes = sizes_for(self._device.type, quick=wanted.quick)
        if wanted.traffic_seconds is not None:
            self._sizes = dataclasses.replace(self._sizes, traffic_seconds=wanted.traffic_seconds)
        self._subject = Subject(wanted, folder, device=self._device, sizes=self._sizes)
        self.recorder = Recorder(Path(wanted.json) if wanted.json else None, self._facts())

    def measure(self) -> None:
        """Run every scenario. What fails is written down as failed, and the rest goes on."""
        chosen = self._wanted.scenarios
        self._measure_engine([name for name in chosen if name in ON_THE_ENGINE])
        free_device(self._device)
        for name in chosen:
            if name not in ON_THE_ENGINE:
                self._scenario(name, self._later(name), clear=lambda: free_device(self._device))
        self.recorder.end("out of time" if self._budget.over else "complete", seconds=self._budget.spent)

    def _measure_engine(self, names: list[str]) -> None:
        if not names:
            return
        roof = self._measure_roof()
        rigs: list[Rig] = []
        self._scenario(names[0], [Case("building the engine", lambda: self._build(rigs))], clear=lambda: None)
        if not rigs:
            return
        cost = self._subject.cost
        stage = Stage(rigs[0], self._sizes, cost, roof, self._budget, self._wanted.repeat)
        for name in names:
            self._scenario(name, ON_THE_ENGINE[name](stage), clear=stage.rig.clear)

    def _measure_roof(self) -> Roof:
        self._telling.doing("measuring the device")
        roof = measure_roof(self._device)
        self.recorder.learn(
            roof={"copy_TB_per_s": roof.bytes_per_second / 1e12, "TFLOP_per_s": roof.flop_per_second / 1e12}
        )
        return roof

    def _build(self, rigs: list[Rig]) -> Iterable[Row]:
        """Put a rig with a warm engine into `rigs`; gives no row."""
        begun: dict[str, float] = {"weights": now()}

        def progress(stage: str, share: float) -> None:
            begun.setdefault(stage, now())
            self._telling.doing(f"building the engine: {stage} {share:.0%}")

        engine = self._subject.build_engine(progress)
        progress("warm-up", 0.0)
        engine.warm_up()
        gc.collect()
        gc.freeze()  # as a worker does
        rigs.append(Rig(engine, self._subject.config))
        ends = [*list(begun.values())[1:], now()]
        seconds = {stage: end - at for (stage, at), end in zip(begun.items(), ends, strict=True)}
        self.recorder.learn(capacity=msgspec.to_builtins(engine.capacity), build_seconds=seconds)
        return ()

    def _later(self, name: str) -> Iterable[Case]:
        """Scenarios that need the device for themselves."""
        if name == "agreement":
            return agreement.agreement(self._subject)
        if name == "start":
            return start.start(self._subject, self._budget, repeat=self._wanted.repeat, quick=self._wanted.quick)
        rows = self.recorder.report.rows
        return compare.transformers(
            compare.Comparison(self._subject, self._sizes, self._budget, self._wanted.repeat, rows)
        )

    def _scenario(self, name: str, cases: Iterable[Case], *, clear: Callable[[], None]) -> None:
        for case in cases:
            self._telling.doing(case.label)
            if self._budget.over:
                self._add(name, Row(label=case.label, status="skipped", reason="no time was left"))
                continue
            try:
                for row in case.measure():
                    self._add(name, row)
            except DoesNotApply as why:
                self._add(name, Row(label=case.label, status="skipped", reason=str(why)))
            except torch.OutOfMemoryError as error:
                self._add(name, Row(label=case.label, status="failed", reason=_first_line(error)))
            except Exception as error:  # the other figures are still wanted
                traceback.print_exc()
                reason = f"{type(error).__name__}: {_first_line(error)}"
                self._add(name, Row(label=case.label, status="failed", reason=reason))
            try:
                clear()
            except Exception:  # the engine is broken: what follows will say so for itself
                traceback.print_exc()

    def _add(self, scenario: str, row: Row) -> None:
        row = msgspec.structs.replace(row, scenario=scenario)
        self.recorder.add(row, seconds=self._budget.spent)
        self._telling.done(row)

    def _facts(self) -> dict[str, Any]:
        return {
            "command": list(self._wanted.command),
            "gemmad": gemmad.__version__,
            "commit": git_commit(),
            "started": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "libraries": library_versions(),
            "device": device_facts(self._device),
            "model": _model_facts(self._subject),
            "settings": msgspec.to_builtins(self._subject.settings),
            "sizes": msgspec.to_builtins(self._sizes),
        }


def _model_facts(subject: Subject) -> dict[str, Any]:
    cost = subject.cost
    return {
        "name": subject.name,
        "dtype": str(subject.dtype).removeprefix("torch."),
        "layer_weights": cost.layer_weights,
        "head_weights": cost.head_weights,
        "text": msgspec.to_builtins(subject.config.text),
    }


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0][:300] or type(error).__name__
