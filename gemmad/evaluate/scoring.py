"""The rows that predict the scored tokens, in the order that every run has: by prefill, or by decoding.

Both go through the engine's network, over pages and with the device's kernels. They differ in which kernels those are:
a step of many tokens multiplies matrices by matrices, a step of one token for each sequence matrices by few rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from gemmad.bench.paged import PagedNetwork
from gemmad.evaluate.wanted import Mode
from gemmad.evaluate.windows import Window

_HEAD_ROWS = 256
"""Rows that go through the head at a time: with Gemma's vocabulary 128 MiB of logits."""


@dataclass(frozen=True)
class Steps:
    """How windows are cut into the engine's steps."""

    mode: Mode
    step_tokens: int
    """Of a piece of prefill."""
    sequences: int
    """Decoded side by side."""


@dataclass(frozen=True)
class Rows:
    """Logits [R, V], and the tokens [R] that came behind them."""

    logits: torch.Tensor
    targets: torch.Tensor


def scored_rows(network: PagedNetwork, windows: Sequence[Window], steps: Steps) -> Iterator[Rows]:
    """Compute all windows; yields every scored row once."""
    if steps.mode == "prefill":
        for window in windows:
            yield from _prefill(network, window, 0, end=len(window.computed), step_tokens=steps.step_tokens)
        return
    for at in range(0, len(windows), steps.sequences):
        yield from _decode(network, windows[at : at + steps.sequences], steps.step_tokens)


def _decode(network: PagedNetwork, windows: Sequence[Window], step_tokens: int) -> Iterator[Rows]:
    """What is not scored is the prompt, and comes in pieces; then a token of each window in every step."""
    first, end = windows[0].first, len(windows[0].computed)
    for seat, window in enumerate(windows):
        yield from _prefill(network, window, seat, end=first - 1, step_tokens=step_tokens)
    for at in range(first - 1, end):
        seats = [seat for seat, window in enumerate(windows) if window.counted[at + 1 - first]]
        hidden = network.hidden([[window.tokens[at]] for window in windows], [at] * len(windows), seats)
        yield from _through_head(network, hidden, [windows[seat].tokens[at + 1] for seat in seats])


def _prefill(network: PagedNetwork, window: Window, seat: int, *, end: int, step_tokens: int) -> Iterator[Rows]:
    """Tokens of a window up to `end`, which is left out; yields those rows that are scored."""
    for start in range(0, end, step_tokens):
        stop = min(start + step_tokens, end)
        looked_at = [at for at in window.rows if start <= at < stop]
        hidden = network.hidden([window.tokens[start:stop]], [start], [at - start for at in looked_at], seats=[seat])
        yield from _through_head(network, hidden, [window.tokens[at + 1] for at in looked_at])


def _through_head(network: PagedNetwork, hidden: torch.Tensor, targets: Sequence[int]) -> Iterator[Rows]:
    for at in range(0, len(targets), _HEAD_ROWS):
        some = torch.tensor(targets[at : at + _HEAD_ROWS], device=hidden.device)
        yield Rows(network.head(hidden[at : at + _HEAD_ROWS]), some)
