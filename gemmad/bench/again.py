"""Time to the first token of something new, and of the same a second time: an image, a long prompt."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass

import torch

from gemmad.bench.record import Row, time_row
from gemmad.bench.rig import Rig
from gemmad.bench.stage import Case, Stage
from gemmad.generation import Prompt

_TEXT_TOKENS = 16
_REPLY = 8


def image(stage: Stage) -> Iterator[Case]:
    """One image and a short question."""
    yield Case("first token of an image request", functools.partial(_image, stage))


def prefix(stage: Stage) -> Iterator[Case]:
    """A long prompt."""
    yield Case("a repeated prompt", functools.partial(_prefix, stage))


def _image(stage: Stage) -> Iterator[Row]:
    rig = stage.rig
    _twice(rig, *rig.picture_prompt(_TEXT_TOKENS))  # not counted
    asked = [_twice(rig, *rig.picture_prompt(_TEXT_TOKENS)) for _ in stage.budget.repeats(2 * stage.repeat)]
    tokens = _TEXT_TOKENS + 1 + rig.config.image_tokens
    assert rig.config.vision is not None, "pictures were refused"
    work = stage.cost.picture(rig.config.vision) + stage.cost.prefill(tokens)
    yield time_row("first token of a new image", [one.new for one in asked], roof=stage.roof, work=work)
    yield _again_row("first token of the same image again", asked)


def _prefix(stage: Stage) -> Iterator[Row]:
    rig, tokens = stage.rig, stage.sizes.long_prompt
    rig.require_room(1, tokens + _REPLY)
    asked = [_twice(rig, rig.prompt(tokens)) for _ in stage.budget.repeats(stage.repeat)]
    work = stage.cost.prefill(tokens)
    yield time_row(f"first token, {tokens} new tokens", [one.new for one in asked], roof=stage.roof, work=work)
    yield _again_row(f"first token, the same {tokens} tokens again", asked)


@dataclass(frozen=True)
class _Asked:
    new: float
    again: float
    """Seconds."""
    cached_tokens: int
    """Of the second time."""


def _twice(rig: Rig, prompt: Prompt, pixels: tuple[torch.Tensor, ...] = ()) -> _Asked:
    new, _ = rig.first_token(prompt, reply_tokens=_REPLY, pixels=pixels)
    rig.clear()
    again, output = rig.first_token(prompt, reply_tokens=_REPLY, pixels=pixels)
    rig.clear()
    return _Asked(new, again, output.cached_tokens)


def _again_row(label: str, asked: list[_Asked]) -> Row:
    details = {"cached_tokens": asked[-1].cached_tokens}
    return time_row(label, [one.again for one in asked], details=details)
