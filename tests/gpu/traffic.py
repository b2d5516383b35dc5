"""Requests of every kind, as they come: short and long ones, pictures, some that are taken back."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch

from gemmad.engine.engine import Engine
from gemmad.generation import ImageSpan, Prompt, SamplingParams

_WISHES: tuple[dict[str, Any], ...] = (
    {},
    {},
    {"logprobs": 5},
    {"repetition_penalty": 1.2, "frequency_penalty": 0.5},
    {"presence_penalty": 0.5, "logit_bias": ((5, -100.0), (9, 2.0)), "logprobs": 0},
)


@dataclass
class Traffic:
    """Keeps an engine busy with requests drawn from `chance`, and counts them."""

    engine: Engine
    chance: random.Random
    vocabulary: int
    image_tokens: int
    count: int = 0
    pictures: int = 0
    aborted: int = 0
    finished: int = 0
    _live: set[int] = field(default_factory=set)

    def run(self, seconds: float, *, clock: Callable[[], float] = time.monotonic) -> None:
        """Send for so long, then wait for what is under way."""
        until = clock() + seconds
        while clock() < until:
            if len(self._live) < 3 * self.engine.capacity.max_sequences // 2 and self.chance.random() < 0.3:
                self._send()
            if self._live and self.chance.random() < 0.01:
                self._take_back()
            self._step()
        while not self.engine.idle:
            self._step()
        self.engine.check()

    def _send(self) -> None:
        longest = self.engine.capacity.max_context - 200
        length = self.chance.choice((3, 30, 200, 900, longest))
        ids = [self.chance.randrange(self.vocabulary) for _ in range(self.chance.randint(1, length))]
        spans: list[ImageSpan] = []
        if self.image_tokens and self.chance.random() < 0.3 and len(ids) + 3 * self.image_tokens < longest:
            for _ in range(self.chance.randint(1, 3)):
                spans.append(ImageSpan(len(ids), self.image_tokens, f"picture {self.chance.randrange(100)}"))
                ids += [0] * (self.image_tokens + 1)
        height, width = self.engine.picture_size
        pixels = tuple(torch.randint(0, 256, (height, width, 3), dtype=torch.uint8) for _ in spans)
        sampling = SamplingParams(
            temperature=self.chance.choice((0.0, 0.7, 1.0)),
            top_k=self.chance.choice((0, 5, 64, 1000)),
            top_p=self.chance.choice((1.0, 0.95, 0.3)),
            min_p=self.chance.choice((0.0, 0.05)),
            seed=self.chance.getrandbits(63),
            max_tokens=self.chance.randint(1, 100),
            **self.chance.choice(_WISHES),
        )
        self.count += 1
        self.pictures += len(spans)
        self._live.add(self.count)
        self.engine.add(self.count, Prompt(tuple(ids), tuple(spans)), sampling, pixels=pixels)

    def _take_back(self) -> None:
        number = self.chance.choice(sorted(self._live))
        self._live.remove(number)
        self.engine.abort(number)
        self.aborted += 1

    def _step(self) -> None:
        for output in self.engine.step():
            if output.finish is not None:
                self._live.discard(output.request_id)
                self.finished += 1
