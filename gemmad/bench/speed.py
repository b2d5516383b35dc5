"""Decode, prefill and time to first token, of requests that have the engine to themselves."""

from __future__ import annotations

import functools
import statistics
from collections.abc import Iterator

from gemmad.bench.record import Row, rate_row, time_row
from gemmad.bench.rig import DoesNotApply, Rig, now
from gemmad.bench.stage import Case, Stage

_SETTLING_STEPS = 4
_FIRST_TOKENS_A_REPEAT = 5
_REPLY = 8
"""Tokens that a request asks for when only its first one matters: it must not end there, as few requests do."""


def decode_label(batch: int) -> str:
    """The row of one batch; the comparison looks it up."""
    return f"decode, batch {batch}"


def prefill_label(tokens: int) -> str:
    """The row of one prompt; the comparison looks it up."""
    return f"prefill, {tokens} tokens"


def decode(stage: Stage) -> Iterator[Case]:
    """Steady decode after short prompts."""
    for batch in stage.sizes.batches:
        label, prompt = decode_label(batch), stage.sizes.prompt
        yield Case(label, functools.partial(_decode, stage, label, batch=batch, prompt_tokens=prompt))


def long_decode(stage: Stage) -> Iterator[Case]:
    """Steady decode after long prompts, where keys and values are what is read."""
    for batch, prompt in stage.sizes.long_decodes:
        label = f"{decode_label(batch)} at {prompt} tokens"
        yield Case(label, functools.partial(_decode, stage, label, batch=batch, prompt_tokens=prompt))


def prefill(stage: Stage) -> Iterator[Case]:
    """Prompts, to their first token."""
    for tokens in stage.sizes.prefills:
        yield Case(prefill_label(tokens), functools.partial(_prefill, stage, tokens))


def ttft(stage: Stage) -> Iterator[Case]:
    """The first token of a short prompt, to the millisecond."""
    label = f"first token, {stage.sizes.prompt} tokens, idle"
    yield Case(label, functools.partial(_idle_ttft, stage, label))


def one_token_each(rig: Rig, batch: int) -> None:
    """A step in which all requests speak. Raises DoesNotApply when one does not: it was preempted."""
    if len(rig.step()) != batch:
        raise DoesNotApply(f"{batch} requests did not stay together; the engine has too few pages for them")


def _decode(stage: Stage, label: str, *, batch: int, prompt_tokens: int) -> tuple[Row]:
    rig, steps = stage.rig, stage.sizes.window_steps
    seconds: list[float] = []
    reply = _SETTLING_STEPS + (stage.repeat + 1) * steps
    with rig.speaking(batch, prompt_tokens=prompt_tokens, reply_tokens=reply) as ids:
        for _ in range(_SETTLING_STEPS):
            one_token_each(rig, batch)
        before = rig.mean_context(ids)
        for _ in stage.budget.repeats(stage.repeat):
            start = now()
            for _ in range(steps):
                one_token_each(rig, batch)
            seconds.append((now() - start) / steps)
        context = (before + rig.mean_context(ids)) / 2
    details = {"step_ms": 1e3 * statistics.median(seconds), "context": context}
    work = stage.cost.decode(batch, context)
    return (rate_row(label, seconds, tokens=batch, roof=stage.roof, work=work, details=details),)


def _prefill(stage: Stage, tokens: int) -> tuple[Row]:
    stage.rig.require_room(1, tokens + _REPLY)
    seconds = _first_tokens(stage, tokens, count=stage.repeat)
    return (rate_row(prefill_label(tokens), seconds, tokens=tokens, roof=stage.roof, work=stage.cost.prefill(tokens)),)


def _idle_ttft(stage: Stage, label: str) -> tuple[Row]:
    tokens = stage.sizes.prompt
    _first_tokens(stage, tokens, count=1)  # not counted
    seconds = _first_tokens(stage, tokens, count=stage.repeat * _FIRST_TOKENS_A_REPEAT)
    return (time_row(label, seconds, roof=stage.roof, work=stage.cost.prefill(tokens)),)


def _first_tokens(stage: Stage, tokens: int, *, count: int) -> list[float]:
    seconds: list[float] = []
    for _ in stage.budget.repeats(count):
        took, _ = stage.rig.first_token(stage.rig.prompt(tokens), reply_tokens=_REPLY)
        stage.rig.clear()
        seconds.append(took)
    return seconds
