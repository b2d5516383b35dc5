"""What the GPU waits for in steady decode, and what the host does meanwhile.

Two views of the same steps. The profiler's (CUPTI) is the device's own: every kernel and copy with its begin and end;
time that none of them covers is idle. It has a price of its own, a little more between two kernels of a graph, so gaps
that are long enough to be the host's fault are told apart. The other is the host's: how long a step takes from Python,
less the time in which it does nothing but wait for the device. It is hidden as long as it is the smaller part.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from gemmad.bench.record import Row, value_row
from gemmad.bench.rig import DoesNotApply, Rig, now
from gemmad.bench.speed import one_token_each
from gemmad.bench.stage import Case, Stage
from gemmad.engine.runner import Launched, Runner
from gemmad.engine.scheduler import Chunk
from gemmad.engine.sequence import Sequence as EngineSequence
from gemmad.generation import TokenLogprobs

LONG_GAP_SECONDS = 20e-6
"""Between two kernels of one graph a few microseconds pass; a longer gap is between steps."""
_SETTLING_STEPS = 8


def idle(stage: Stage) -> Iterator[Case]:
    """Steady decode, watched."""
    for batch in stage.sizes.idle_batches:
        yield Case(f"idle share, batch {batch}", functools.partial(_idle, stage, batch))


def _idle(stage: Stage, batch: int) -> Iterator[Row]:
    rig, steps = stage.rig, stage.sizes.idle_steps
    if not rig.engine.load().device_bytes:
        raise DoesNotApply("on a CPU the host computes by itself; nothing can be hidden")
    reply = 3 * _SETTLING_STEPS + (2 * stage.repeat + 1) * steps
    with rig.speaking(batch, prompt_tokens=stage.sizes.prompt, reply_tokens=reply):
        host, whole = host_work(rig, batch, steps=stage.repeat * steps)
        profiles = [profile_steps(rig, batch, steps=steps) for _ in stage.budget.repeats(stage.repeat)]
    mean = sum(whole) / len(whole)
    details = {"step_ms": 1e3 * mean, "percent_of_step": 100 * sum(host) / sum(whole)}
    yield value_row(f"host's work in a step, batch {batch}", "ms", [1e3 * s for s in host], **details)
    gaps = sum(p.long_gaps for p in profiles) / len(profiles)
    yield value_row(
        f"idle share of the GPU, batch {batch}",
        "%",
        [100 * p.idle / p.window for p in profiles],
        percent_in_gaps_over_20_us=100 * sum(p.idle_in_long_gaps / p.window for p in profiles) / len(profiles),
        such_gaps_a_step=gaps / steps,
    )


@dataclass(frozen=True)
class Profile:
    """What the device did over some steps, in seconds."""

    window: float
    idle: float
    idle_in_long_gaps: float
    long_gaps: int


def profile_of(intervals: Sequence[tuple[float, float]]) -> Profile:
    """From (begin, end) of everything that ran, in any order and overlapping as it may. Not empty."""
    ordered = sorted(intervals)
    gaps: list[float] = []
    reached = ordered[0][0]
    for begin, end in ordered:
        if begin > reached:
            gaps.append(begin - reached)
        reached = max(reached, end)
    long = [gap for gap in gaps if gap > LONG_GAP_SECONDS]
    return Profile(reached - ordered[0][0], sum(gaps), sum(long), len(long))


def profile_steps(rig: Rig, batch: int, *, steps: int) -> Profile:
    """Watch the device over so many steps."""
    from torch.profiler import ProfilerActivity, profile

    for _ in range(_SETTLING_STEPS):
        one_token_each(rig, batch)
    with profile(activities=[ProfilerActivity.CUDA]) as profiler:
        for _ in range(steps):
            one_token_each(rig, batch)
        torch.cuda.synchronize()
    intervals = [
        (event.time_range.start / 1e6, event.time_range.end / 1e6)
        for event in profiler.events() or ()
        if event.device_type.name == "CUDA" and not getattr(event, "is_user_annotation", False)
    ]
    if not intervals:
        raise DoesNotApply("the profiler saw no kernel: its access to the GPU's counters is refused")
    return profile_of(intervals)


def host_work(rig: Rig, batch: int, *, steps: int) -> tuple[list[float], list[float]]:
    """Seconds of each step in which the host worked, and of each step in all."""
    host: list[float] = []
    whole: list[float] = []
    with _Stopwatch(rig) as stopwatch:
        for _ in range(_SETTLING_STEPS):
            one_token_each(rig, batch)
        for _ in range(steps):
            stopwatch.waited = 0.0
            start = now()
            one_token_each(rig, batch)
            whole.append(now() - start)
            host.append(whole[-1] - stopwatch.waited)
    return host, whole


class _Stopwatch:
    """Stands between an engine and its runner, and counts the seconds in which tokens are waited for."""

    def __init__(self, rig: Rig) -> None:
        self._engine = rig.engine
        self._runner: Runner = rig.engine._runner
        self.waited = 0.0

    def __enter__(self) -> _Stopwatch:
        self._engine._runner = self
        return self

    def __exit__(self, *_: object) -> None:
        self._engine._runner = self._runner

    def launch(self, chunks: Sequence[Chunk], previous: Launched | None) -> Launched:
        return _Watched(self._runner.launch(chunks, previous), self)


@dataclass(frozen=True)
class _Watched:
    launched: Launched
    stopwatch: _Stopwatch

    @property
    def speaking(self) -> Sequence[EngineSequence]:
        return self.launched.speaking

    def drawn(self) -> list[int]:
        start = now()
        tokens = self.launched.drawn()
        self.stopwatch.waited += now() - start
        return tokens

    def told(self) -> list[TokenLogprobs | None]:
        return self.launched.told()
