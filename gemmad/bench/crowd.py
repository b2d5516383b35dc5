"""Many requests at a time: what the engine gives in all, and what each of them feels of the others."""

from __future__ import annotations

import functools
from collections.abc import Iterator

from gemmad.bench.record import Row, rate_row, time_row
from gemmad.bench.rig import Rig, now
from gemmad.bench.stage import Case, Stage
from gemmad.bench.stats import quantile

_CALM_STEPS = 16
"""Steps between two disturbances, in which the gaps between tokens are what they usually are."""
_FIRST_TOKENS_A_REPEAT = 3


def throughput(stage: Stage) -> Iterator[Case]:
    """All requests at once; more than the engine runs at a time."""
    yield Case(f"{stage.sizes.requests} requests at once", functools.partial(_throughput, stage))


def load(stage: Stage) -> Iterator[Case]:
    """A newcomer among requests that are being answered."""
    label = f"a newcomer beside {stage.sizes.load_batch} requests"
    yield Case(label, functools.partial(_load, stage, stage.sizes.load_batch))


def _throughput(stage: Stage) -> tuple[Row]:
    rig, sizes = stage.rig, stage.sizes
    rig.require_room(1, sizes.prompt + sizes.reply)
    seconds: list[float] = []
    for _ in stage.budget.repeats(stage.repeat):
        prompts = [rig.prompt(sizes.prompt) for _ in range(sizes.requests)]
        start = now()
        for prompt in prompts:
            rig.add(prompt, reply_tokens=sizes.reply)
        while not rig.engine.idle:
            rig.step()
        seconds.append(now() - start)
        rig.clear()
    at_a_time = min(sizes.requests, rig.engine.capacity.max_sequences)
    steps = sizes.reply * sizes.requests / at_a_time
    prefilled = stage.cost.prefill(sizes.prompt)
    # Prompts can share the reading of the weights with the steps that decode: their multiplying is what they add.
    work = stage.cost.decode(at_a_time, sizes.prompt + sizes.reply / 2) * steps
    work += type(work)(nbytes=0.0, flop=prefilled.flop * sizes.requests)
    label = f"{sizes.requests} requests at once, {sizes.prompt} in, {sizes.reply} out"
    tokens = sizes.requests * sizes.reply
    return (rate_row(label, seconds, tokens=tokens, roof=stage.roof, work=work, details={"at_a_time": at_a_time}),)


def _load(stage: Stage, batch: int) -> Iterator[Row]:
    sizes, step_tokens = stage.sizes, stage.rig.engine.capacity.max_step_tokens
    newcomers = stage.repeat * _FIRST_TOKENS_A_REPEAT
    steps = newcomers * (sizes.prompt // step_tokens + 6) + stage.repeat * (sizes.long_prompt // step_tokens + 6)
    steps += (newcomers + stage.repeat + 1) * _CALM_STEPS
    firsts: list[float] = []
    with stage.rig.speaking(batch, prompt_tokens=sizes.prompt, reply_tokens=2 * steps) as ids:
        gaps = Gaps(stage.rig, ids)
        calm = gaps.during(_CALM_STEPS)
        for _ in stage.budget.repeats(newcomers):
            firsts.append(gaps.until_first_token(sizes.prompt)[0])
            calm += gaps.during(_CALM_STEPS)
        stalls: list[float] = []
        for _ in stage.budget.repeats(stage.repeat):
            stalls += gaps.until_first_token(sizes.long_prompt)[1]
            gaps.during(_CALM_STEPS)
    beside = f"beside {batch} others"
    yield time_row(f"first token, {sizes.prompt} tokens, {beside}", firsts)
    yield time_row(f"gap between tokens, {beside}", calm, details=tail(calm))
    yield time_row(f"gap between tokens, while {sizes.long_prompt} tokens are prefilled", stalls, details=tail(stalls))


class Gaps:
    """Seconds between one token of a request and its next, as requests that go on feel them."""

    def __init__(self, rig: Rig, ids: tuple[int, ...]) -> None:
        self._rig = rig
        self._last = dict.fromkeys(ids, now())

    def during(self, steps: int) -> list[float]:
        """Of so many steps."""
        return [gap for _ in range(steps) for gap in self._step()[0]]

    def until_first_token(self, tokens: int) -> tuple[float, list[float]]:
        """A newcomer's time to its first token, and the others' gaps meanwhile."""
        start = now()
        newcomer = self._rig.add(self._rig.prompt(tokens), reply_tokens=1)
        felt: list[float] = []
        while True:
            gaps, spoke = self._step()
            felt += gaps
            if newcomer in spoke:
                return now() - start, felt

    def _step(self) -> tuple[list[float], set[int]]:
        spoke = {output.request_id for output in self._rig.step()}
        at = now()
        gaps = [at - self._last[i] for i in spoke if i in self._last]
        self._last.update((i, at) for i in spoke if i in self._last)
        return gaps, spoke


def tail(seconds: list[float]) -> dict[str, float]:
    """The gaps that people notice, in milliseconds."""
    return {f"p{share}_ms": 1e3 * quantile(seconds, share / 100) for share in (50, 99)}
